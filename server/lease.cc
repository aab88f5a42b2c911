#include "server/lease.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace weightstream {
namespace {

// How soon a lease notices that its holder has gone, beyond what the connection takes to tell.
constexpr absl::Duration kLeasePoll = absl::Milliseconds(200);

}  // namespace

absl::Status HoldLease(const CallEnvironment& environment, const LeaseCall& lease, const Model& model,
                       const LeaseDuties& duties) {
  Permit permit(environment.authorizer, *lease.context, lease.method);
  while (!lease.context->IsCancelled()) {
    if (absl::Status allowed = permit.Check(model.name()); !allowed.ok()) return allowed;
    if (absl::Status healthy = environment.device->Health(); !healthy.ok()) return healthy;
    const ModelSnapshot snapshot = model.Snapshot();
    if (!duties.tell(snapshot)) break;
    if (lease.stopping->load(std::memory_order_acquire) && duties.may_end()) {
      return absl::UnavailableError(absl::StrCat("the server is shutting down, ", duties.at_shutdown));
    }
    model.AwaitChange(snapshot.change, kLeasePoll);
  }
  return lease.call->EndStatus();
}

}  // namespace weightstream
