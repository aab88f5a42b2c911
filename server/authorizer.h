// Decides each call: who calls, by token or certificate, and whether the rules let them.
#ifndef WEIGHTSTREAM_SERVER_AUTHORIZER_H_
#define WEIGHTSTREAM_SERVER_AUTHORIZER_H_

#include <grpcpp/server_context.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/access_rules.h"
#include "server/log_brake.h"
#include "server/reload_complaint.h"
#include "server/two_looks.h"

namespace weightstream {

// What a caller has to show for itself.
struct Evidence {
  // The values of the metadata "authorization", as sent.
  std::vector<std::string> authorization{};
  // The common name and the subject alternative names of a certificate that TLS has verified.
  std::vector<std::string> subjects{};
};

Evidence EvidenceOf(const grpc::ServerContextBase& context);

// Thread-safe.
class Authorizer {
 public:
  // From --auth-token-file. FAILED_PRECONDITION names file, line and remedy, never a token.
  static absl::StatusOr<std::unique_ptr<Authorizer>> Load(const std::string& path);

  // Looks at the file again, to be called about once a second. What two looks in a row saw alike, and is sound, holds
  // from now on; what is not sound changes nothing, and is logged once.
  void Reload() ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether this caller may call `method` on `model`; an empty model stands for a call that names none, which any model
  // allows. UNAUTHENTICATED without evidence that the rules know; PERMISSION_DENIED names role and model.
  absl::Status Check(const Evidence& evidence, absl::string_view method, absl::string_view model) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Says in the log that a call was refused: of each peer once in a while, since whoever reaches the server can be
  // refused as often as they like.
  void LogRefusal(const std::string& grpc_peer, absl::string_view method, absl::string_view model,
                  const absl::Status& why) const;

  // Grows with each change of the rules.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

 private:
  Authorizer(std::string path, std::string text, AccessRules rules);

  static absl::StatusOr<AccessRules> Parse(const std::string& path, const std::string& text);
  std::shared_ptr<const AccessRules> rules() const ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string path_;
  std::atomic<uint64_t> generation_ = 1;
  mutable absl::Mutex mutex_;
  std::string text_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const AccessRules> rules_ ABSL_GUARDED_BY(mutex_);
  TwoLooks looks_;
  mutable LogBrake brake_;
  ReloadComplaint complaint_{"access_rules_not_reloaded", "the rules read before stay in use"};
};

// One call's right to go on, asked for again in the course of a long one: a token that is taken out of the file ends
// its streams too. Cheap while the rules do not change. Not thread-safe.
class Permit {
 public:
  // `authorizer` may be null: then everything is allowed. Both outlive this; `method` is a literal.
  Permit(const Authorizer* authorizer, const grpc::ServerContextBase& context, absl::string_view method);

  // Refusals are logged, as LogRefusal does.
  absl::Status Check(absl::string_view model);

 private:
  const Authorizer* const authorizer_;
  const grpc::ServerContextBase& context_;
  const absl::string_view method_;
  Evidence evidence_;
  // What the last success was for.
  uint64_t generation_ = 0;
  std::string model_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_AUTHORIZER_H_
