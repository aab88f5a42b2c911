// Who may do what: the roles, what each call needs, and the file that gives roles to tokens and certificates.
//
// The file has one line a credential, ROLE MODELS CREDENTIAL:
//
//   # trainers
//   push   llama,policy  token:4f1d...                     the token itself
//   read   *             sha256:9a0c...                    or its SHA-256, so that the file holds no secret
//   admin  *             subject:ops.example.org           or a client certificate's name, with mutual TLS
//
// Each line ends with a newline, the last one too: a file that was cut off at whatever byte then gives nothing that the
// whole one does not.
//
// A line a credential, because such files are written by hand, appended to by scripts and compared by diff, and an
// error can name the line.
#ifndef WEIGHTSTREAM_SERVER_ACCESS_RULES_H_
#define WEIGHTSTREAM_SERVER_ACCESS_RULES_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "security/token.h"

namespace weightstream {

// Each may do what those before it may.
enum class Role { kRead, kPush, kAdmin };

absl::string_view RoleName(Role role);

// The role that a method of the service (its short name, "BeginUpdate") needs; nullopt for one that is not in the
// table, which nobody may call then.
absl::optional<Role> RoleNeeded(absl::string_view method);

// What one line of the file gives.
struct Grant {
  Role role = Role::kRead;
  // Empty is every model.
  std::set<std::string, std::less<>> models;
  // In the file, from 1.
  int line = 0;

  bool covers(absl::string_view model) const { return models.empty() || models.count(model) > 0; }
};

// The parsed file. Immutable.
class AccessRules {
 public:
  // INVALID_ARGUMENT names the line and what is wrong, never the credential.
  static absl::StatusOr<AccessRules> Parse(absl::string_view text);

  // The grants of a token; several lines may name it, and add up. Takes as long for every token.
  std::vector<const Grant*> OfToken(absl::string_view token) const;
  // Of a certificate that has any of these names.
  std::vector<const Grant*> OfSubjects(const std::vector<std::string>& subjects) const;

  size_t size() const { return tokens_.size() + subjects_.size(); }

 private:
  absl::Status Add(absl::string_view line, int number);

  std::vector<std::pair<TokenDigest, Grant>> tokens_;
  std::vector<std::pair<std::string, Grant>> subjects_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_ACCESS_RULES_H_
