// The lease of memory that is shared with another process: an open call. It holds until the caller ends it or dies, may
// not make it any more, the device fails or the server shuts down.
#ifndef WEIGHTSTREAM_SERVER_LEASE_H_
#define WEIGHTSTREAM_SERVER_LEASE_H_

#include <grpcpp/server_context.h>

#include <atomic>
#include <functional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/call_environment.h"
#include "server/model.h"
#include "server/open_calls.h"

namespace weightstream {

// The call that a lease is.
struct LeaseCall {
  absl::string_view method;
  grpc::ServerContext* context = nullptr;
  const OpenCalls::Call* call = nullptr;
  const std::atomic<bool>* stopping = nullptr;
};

// What there is to do in the meantime.
struct LeaseDuties {
  // Tells the caller what became of the model, at once and at each change at least; false once it takes no more.
  std::function<bool(const ModelSnapshot&)> tell;
  // Whether a server that shuts down may end the lease now.
  std::function<bool()> may_end;
  // What it then says.
  absl::string_view at_shutdown;
};

// Holds the lease of a model's memory. Returns why it ended.
absl::Status HoldLease(const CallEnvironment& environment, const LeaseCall& lease, const Model& model,
                       const LeaseDuties& duties);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_LEASE_H_
