// The ExportTarget call: lends a version's device memory to another process, for as long as the call is open.
#ifndef WEIGHTSTREAM_SERVER_EXPORT_STREAM_H_
#define WEIGHTSTREAM_SERVER_EXPORT_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/sync_stream.h>

#include <atomic>

#include "absl/status/status.h"
#include "server/call_environment.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// Serves one call on the calling thread: OK never, since the caller ends it, or `stopping` does (UNAVAILABLE).
absl::Status ServeExport(const CallEnvironment& environment, const std::atomic<bool>& stopping,
                         grpc::ServerContext* context, const v1::ExportTargetRequest& request,
                         grpc::ServerWriterInterface<v1::ExportedTarget>* writer);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_EXPORT_STREAM_H_
