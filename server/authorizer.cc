#include "server/authorizer.h"

#include <grpc/grpc_security_constants.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "security/small_file.h"
#include "server/log.h"
#include "server/peer.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

constexpr char kFlag[] = "auth-token-file";
constexpr char kMetadataKey[] = "authorization";
constexpr absl::string_view kScheme = "Bearer ";
constexpr char kHow[] = "send it as metadata \"authorization: Bearer TOKEN\" (weightstream: --auth-token-file)";

// The token of the one value there may be; UNAUTHENTICATED for anything else.
absl::StatusOr<absl::string_view> TokenIn(const std::vector<std::string>& authorization) {
  if (authorization.size() > 1) {
    return absl::UnauthenticatedError("the call has more than one \"authorization\" in its metadata; send one token");
  }
  absl::string_view value = authorization.front();
  if (!absl::StartsWithIgnoreCase(value, kScheme)) {
    return absl::UnauthenticatedError(absl::StrCat("the call's \"authorization\" is no bearer token; ", kHow));
  }
  value.remove_prefix(kScheme.size());
  return value;
}

absl::StatusOr<std::vector<const Grant*>> GrantsOf(const AccessRules& rules, const Evidence& evidence) {
  std::vector<const Grant*> grants = rules.OfSubjects(evidence.subjects);
  if (evidence.authorization.empty()) {
    if (!grants.empty()) return grants;
    return absl::UnauthenticatedError(absl::StrCat(
        "this server wants a token; ", kHow,
        evidence.subjects.empty() ? "" : ". The client's certificate alone gives no role here (no subject: line)"));
  }
  const absl::StatusOr<absl::string_view> token = TokenIn(evidence.authorization);
  if (!token.ok()) return token.status();
  const std::vector<const Grant*> by_token = rules.OfToken(*token);
  // Also where the certificate would do: whoever sends a token relies on it.
  if (by_token.empty()) {
    return absl::UnauthenticatedError(
        "the token is none that this server knows; it may have been replaced: get the one that is in use now");
  }
  grants.insert(grants.end(), by_token.begin(), by_token.end());
  return grants;
}

absl::Status Denied(absl::string_view method, absl::string_view model, Role needed,
                    const std::vector<const Grant*>& grants) {
  const Grant* best = nullptr;
  for (const Grant* grant : grants) {
    if ((model.empty() || grant->covers(model)) && (best == nullptr || grant->role > best->role)) best = grant;
  }
  const std::string of_model = model.empty() ? "" : absl::StrCat(" of model '", Printable(model), "'");
  return absl::PermissionDeniedError(absl::StrCat(
      method, of_model, " needs the role ", RoleName(needed), "; this caller has ",
      best == nullptr ? std::string("no role on that model") : absl::StrCat("the role ", RoleName(best->role)),
      ". Roles are given in the server's --auth-token-file"));
}

void AppendProperty(const grpc::AuthContext& auth, const char* property, std::vector<std::string>& out) {
  for (const grpc::string_ref& value : auth.FindPropertyValues(property)) out.emplace_back(value.data(), value.size());
}

}  // namespace

Evidence EvidenceOf(const grpc::ServerContextBase& context) {
  Evidence evidence;
  const auto [begin, end] = context.client_metadata().equal_range(kMetadataKey);
  for (auto it = begin; it != end; ++it) evidence.authorization.emplace_back(it->second.data(), it->second.size());
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  if (auth != nullptr) {
    // Only certificates that TLS has verified are there at all.
    AppendProperty(*auth, GRPC_X509_CN_PROPERTY_NAME, evidence.subjects);
    AppendProperty(*auth, GRPC_X509_SAN_PROPERTY_NAME, evidence.subjects);
  }
  return evidence;
}

Authorizer::Authorizer(std::string path, std::string text, AccessRules rules)
    : path_(std::move(path)), text_(std::move(text)), rules_(std::make_shared<const AccessRules>(std::move(rules))) {}

absl::StatusOr<AccessRules> Authorizer::Parse(const std::string& path, const std::string& text) {
  absl::StatusOr<AccessRules> rules = AccessRules::Parse(text);
  if (rules.ok()) return rules;
  return FileError(kFlag, path, absl::StrCat(rules.status().message(), "; docs/security.md describes the format"));
}

absl::StatusOr<std::unique_ptr<Authorizer>> Authorizer::Load(const std::string& path) {
  absl::StatusOr<std::string> text = ReadSmallFile(kFlag, path, "a file of roles and tokens");
  if (!text.ok()) return text.status();
  absl::StatusOr<AccessRules> rules = Parse(path, *text);
  if (!rules.ok()) return rules.status();
  LogInfo("access_rules", {{"file", path}, {"credentials", rules->size()}});
  return std::unique_ptr<Authorizer>(new Authorizer(path, *std::move(text), *std::move(rules)));
}

void Authorizer::Reload() {
  const absl::StatusOr<std::string> text = ReadSmallFile(kFlag, path_, "a file of roles and tokens");
  bool unchanged = false;
  {
    absl::MutexLock lock(&mutex_);
    unchanged = text.ok() && *text == text_;
  }
  const bool settled = looks_.SawAgain(text.ok() ? *text : text.status().ToString());
  if (unchanged) {
    complaint_.Note(absl::OkStatus());
    return;
  }
  if (!settled) return;
  absl::StatusOr<AccessRules> rules = text.ok() ? Parse(path_, *text) : absl::StatusOr<AccessRules>(text.status());
  complaint_.Note(rules.status());
  if (!rules.ok()) return;
  LogInfo("access_rules", {{"file", path_}, {"credentials", rules->size()}});
  absl::MutexLock lock(&mutex_);
  text_ = *text;
  rules_ = std::make_shared<const AccessRules>(*std::move(rules));
  generation_.fetch_add(1, std::memory_order_release);
}

std::shared_ptr<const AccessRules> Authorizer::rules() const {
  absl::MutexLock lock(&mutex_);
  return rules_;
}

absl::Status Authorizer::Check(const Evidence& evidence, absl::string_view method, absl::string_view model) const {
  const std::shared_ptr<const AccessRules> rules = this->rules();
  const absl::StatusOr<std::vector<const Grant*>> grants = GrantsOf(*rules, evidence);
  if (!grants.ok()) return grants.status();
  const absl::optional<Role> needed = RoleNeeded(method);
  if (!needed.has_value()) {
    return absl::PermissionDeniedError(absl::StrCat(method, " has no role in this server's table; nobody may call it"));
  }
  const bool allowed = std::any_of(grants->begin(), grants->end(), [&](const Grant* grant) {
    return grant->role >= *needed && (model.empty() || grant->covers(model));
  });
  return allowed ? absl::OkStatus() : Denied(method, model, *needed, *grants);
}

void Authorizer::LogRefusal(const std::string& grpc_peer, absl::string_view method, absl::string_view model,
                            const absl::Status& why) const {
  const uint64_t refused = brake_.Count(PeerOf(grpc_peer));
  if (refused == 0) return;
  LogWarning("call_refused", {{"peer", grpc_peer},
                              {"method", method},
                              {"model", Printable(model)},
                              {"error", why.ToString()},
                              {"refused", refused}});
}

Permit::Permit(const Authorizer* authorizer, const grpc::ServerContextBase& context, absl::string_view method)
    : authorizer_(authorizer), context_(context), method_(method) {
  if (authorizer_ != nullptr) evidence_ = EvidenceOf(context);
}

absl::Status Permit::Check(absl::string_view model) {
  if (authorizer_ == nullptr) return absl::OkStatus();
  // Before the check: rules that change under it are then looked at once more.
  const uint64_t generation = authorizer_->generation();
  if (generation == generation_ && model == model_) return absl::OkStatus();
  absl::Status allowed = authorizer_->Check(evidence_, method_, model);
  if (allowed.ok()) {
    generation_ = generation;
    model_ = std::string(model);
  } else {
    authorizer_->LogRefusal(context_.peer(), method_, model, allowed);
  }
  return allowed;
}

}  // namespace weightstream
