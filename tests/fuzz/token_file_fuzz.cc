// The server's file of roles and tokens (--auth-token-file). The input is its text.
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/access_rules.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_target.h"

namespace weightstream {
namespace {

// Shorter texts may be in a message by chance.
constexpr size_t kTellingBytes = 16;

// A line that gives somebody a role, read the plain way.
struct CredentialLine {
  int number = 0;
  std::string role;
  std::string models;
  std::string credential;
};

std::string Trimmed(const std::string& text) {
  size_t begin = 0;
  size_t end = text.size();
  while (begin < end && std::isspace(static_cast<unsigned char>(text[begin])) != 0) ++begin;
  while (end > begin && std::isspace(static_cast<unsigned char>(text[end - 1])) != 0) --end;
  return text.substr(begin, end - begin);
}

// The lines that are no comment; what they hold need not be right.
std::vector<CredentialLine> LinesOf(const std::string& text) {
  std::vector<CredentialLine> lines;
  std::istringstream stream(text);
  int number = 0;
  for (std::string raw; std::getline(stream, raw);) {
    ++number;
    std::string rest = Trimmed(raw);
    if (rest.empty() || rest[0] == '#') continue;
    CredentialLine line;
    line.number = number;
    for (std::string* word : {&line.role, &line.models}) {
      const size_t end = std::min(rest.find_first_of(" \t"), rest.size());
      *word = rest.substr(0, end);
      rest = Trimmed(rest.substr(end));
    }
    line.credential = rest;
    lines.push_back(line);
  }
  return lines;
}

bool HasGrant(const std::vector<const Grant*>& grants, const CredentialLine& line) {
  for (const Grant* grant : grants) {
    if (grant->line != line.number) continue;
    Require(RoleName(grant->role) == line.role, "a grant has its line's role");
    Require(grant->models.empty() == (line.models == "*"), "a grant has every model only where the line says so");
    for (const std::string& model : grant->models) {
      Require(
          absl::StrContains(absl::StrCat(",", line.models, ","), absl::StrCat(",", model, ",")) && grant->covers(model),
          "a grant covers its line's models");
    }
    Require(grant->models.empty() || !grant->covers("no model of this name"), "a grant covers no other model");
    return true;
  }
  return false;
}

void CheckRules(const AccessRules& rules, const std::vector<CredentialLine>& lines) {
  Require(rules.size() == lines.size(), "every line gives one grant");
  for (const CredentialLine& line : lines) {
    const absl::string_view credential = line.credential;
    Require(line.role == "read" || line.role == "push" || line.role == "admin", "a role is one of three");
    Require(line.role != "admin" || line.models == "*", "an admin has every model");
    if (absl::StartsWith(credential, "token:")) {
      const absl::string_view token = credential.substr(6);
      Require(token.size() >= kTellingBytes, "a token is not guessed");
      Require(HasGrant(rules.OfToken(token), line), "a token has its line's grant");
      Require(!HasGrant(rules.OfToken(token.substr(1)), line), "a part of a token is none");
    } else if (absl::StartsWith(credential, "subject:")) {
      Require(HasGrant(rules.OfSubjects({line.credential.substr(8)}), line), "a subject has its line's grant");
    } else {
      Require(absl::StartsWith(credential, "sha256:") && credential.size() == 7 + 64, "a credential is one of three");
      Require(!HasGrant(rules.OfToken(credential.substr(7)), line), "a digest is no token");
    }
  }
  Require(rules.OfSubjects({}).empty() && rules.OfSubjects({""}).empty(), "nobody has no role");
}

void CheckFile(const std::string& text) {
  const std::vector<CredentialLine> lines = LinesOf(text);
  const absl::StatusOr<AccessRules> rules = AccessRules::Parse(text);
  // A line that is none changes nothing but the numbers.
  const absl::StatusOr<AccessRules> again = AccessRules::Parse(absl::StrCat("# comment\n \t\n", text, "\n#\n"));
  Require(rules.ok() == again.ok(), "comments and empty lines do not count", again.status().ToString());
  if (rules.ok()) {
    Require(again->size() == rules->size(), "comments and empty lines give nothing");
    CheckRules(*rules, lines);
    return;
  }
  RequireClearError(rules.status());
  for (const CredentialLine& line : lines) {
    const std::string secret = line.credential.substr(line.credential.find(':') + 1);
    // One with blanks is no token and no digest, and may be a part of what every message says.
    if (secret.size() < kTellingBytes || secret.find_first_of(" \t") != std::string::npos) continue;
    Require(!absl::StrContains(rules.status().message(), secret), "a message tells no credential");
  }
}

}  // namespace
}  // namespace weightstream

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weightstream;
  std::string text(reinterpret_cast<const char*>(data), size);
  if (text.empty() || text.back() != '\n') {
    const absl::StatusOr<AccessRules> cut = AccessRules::Parse(text);
    Require(!cut.ok(), "a file that may be cut off is refused");
    RequireClearError(cut.status());
    text += '\n';
  }
  CheckFile(text);
  return 0;
}
