// The Push call: reads chunks off one stream and lands them.
#ifndef WEIGHTSTREAM_SERVER_PUSH_STREAM_H_
#define WEIGHTSTREAM_SERVER_PUSH_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/sync_stream.h>

#include "absl/status/status.h"
#include "server/call_environment.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// Serves one stream, on the calling thread, until it ends. Not reading is the brake: while a chunk lands, what comes
// after it waits, in the reader (server/read_ahead.h) and in the windows of HTTP/2 and TCP.
absl::Status ServePush(const CallEnvironment& environment, grpc::ServerContext* context,
                       grpc::ServerReaderInterface<grpc::ByteBuffer>* reader, v1::PushResponse* response);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_PUSH_STREAM_H_
