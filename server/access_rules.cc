#include "server/access_rules.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

struct MethodRole {
  absl::string_view method;
  Role role;
};

// Every method of the service. A test holds it against the .proto. Who shares memory can write it, so that it takes who
// may bring weights.
constexpr MethodRole kMethods[] = {
    {"Pull", Role::kRead},
    {"GetManifest", Role::kRead},
    {"DigestModel", Role::kRead},
    {"GetModel", Role::kRead},
    {"ListModels", Role::kRead},
    {"WatchModel", Role::kRead},
    {"BeginUpdate", Role::kPush},
    {"Push", Role::kPush},
    {"CommitUpdate", Role::kPush},
    {"AbortUpdate", Role::kPush},
    {"RollbackModel", Role::kAdmin},
    {"ExportTarget", Role::kPush},
    {"RegisterTargets", Role::kPush},
};

// Takes the first word off the text, and the space before and after it.
absl::string_view TakeWord(absl::string_view& text) {
  text = absl::StripLeadingAsciiWhitespace(text);
  const size_t end = std::min(text.find_first_of(" \t"), text.size());
  const absl::string_view word = text.substr(0, end);
  text = absl::StripAsciiWhitespace(text.substr(end));
  return word;
}

absl::StatusOr<Role> ParseRole(absl::string_view word) {
  for (const Role role : {Role::kRead, Role::kPush, Role::kAdmin}) {
    if (word == RoleName(role)) return role;
  }
  // Not quoted: a line that was mixed up may start with its token.
  return absl::InvalidArgumentError("a line starts with a role: read, push or admin");
}

absl::Status ParseModels(absl::string_view word, Grant& grant) {
  if (word == "*") return absl::OkStatus();
  if (grant.role == Role::kAdmin) return absl::InvalidArgumentError("an admin has every model: write * for the models");
  for (const absl::string_view model : absl::StrSplit(word, ',')) {
    if (!ValidateModelName(model).ok()) {
      return absl::InvalidArgumentError(
          "after the role come the models: * for all, or names separated by commas, without space");
    }
    grant.models.emplace(model);
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view RoleName(Role role) {
  switch (role) {
    case Role::kRead:
      return "read";
    case Role::kPush:
      return "push";
    case Role::kAdmin:
      return "admin";
  }
  return "unknown";
}

absl::optional<Role> RoleNeeded(absl::string_view method) {
  for (const MethodRole& entry : kMethods) {
    if (entry.method == method) return entry.role;
  }
  return absl::nullopt;
}

absl::Status AccessRules::Add(absl::string_view line, int number) {
  Grant grant;
  grant.line = number;
  const absl::StatusOr<Role> role = ParseRole(TakeWord(line));
  if (!role.ok()) return role.status();
  grant.role = *role;
  if (const absl::Status models = ParseModels(TakeWord(line), grant); !models.ok()) return models;
  if (absl::ConsumePrefix(&line, "token:")) {
    if (const absl::Status valid = ValidateToken(line); !valid.ok()) return valid;
    tokens_.emplace_back(DigestOf(line), std::move(grant));
    return absl::OkStatus();
  }
  if (absl::ConsumePrefix(&line, "sha256:")) {
    const absl::StatusOr<TokenDigest> digest = ParseDigest(line);
    if (!digest.ok()) return digest.status();
    tokens_.emplace_back(*digest, std::move(grant));
    return absl::OkStatus();
  }
  if (absl::ConsumePrefix(&line, "subject:") && !line.empty()) {
    subjects_.emplace_back(std::string(line), std::move(grant));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("after the models comes token:TOKEN, sha256:HEX or subject:NAME");
}

absl::StatusOr<AccessRules> AccessRules::Parse(absl::string_view text) {
  AccessRules rules;
  int number = 0;
  // Cut off, `subject:ops.example` could be the name of another, and a list of models end sooner.
  if (!text.empty() && text.back() != '\n') {
    return absl::InvalidArgumentError(absl::StrCat("line ", std::count(text.begin(), text.end(), '\n') + 1,
                                                   ", the last one, may be cut off: end it with a newline"));
  }
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    const absl::Status added = rules.Add(line, number);
    if (!added.ok()) return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", added.message()));
  }
  // As a file that is cut off while it is replaced; a server that nobody may use is stopped instead.
  if (rules.size() == 0) return absl::InvalidArgumentError("no line gives anybody a role");
  return rules;
}

std::vector<const Grant*> AccessRules::OfToken(absl::string_view token) const {
  const TokenDigest digest = DigestOf(token);
  std::vector<const Grant*> grants;
  for (const auto& [known, grant] : tokens_) {
    if (SameDigest(known, digest)) grants.push_back(&grant);
  }
  return grants;
}

std::vector<const Grant*> AccessRules::OfSubjects(const std::vector<std::string>& subjects) const {
  std::vector<const Grant*> grants;
  for (const auto& [known, grant] : subjects_) {
    if (std::find(subjects.begin(), subjects.end(), known) != subjects.end()) grants.push_back(&grant);
  }
  return grants;
}

}  // namespace weightstream
