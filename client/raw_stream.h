// The calls that carry much, as grpc::ByteBuffer instead of messages. Internal to the client: it has gRPC types.
//
// The generated stubs would serialise every chunk into a fresh buffer and parse every received one into a std::string:
// a copy of each byte at each end, which is what the codecs in proto/ are there to avoid; a manifest, likewise. gRPC
// generates raw methods for services only, so these open the calls in the way that the generated stubs do, with
// ByteBuffer as the message type.
#ifndef WEIGHTSTREAM_CLIENT_RAW_STREAM_H_
#define WEIGHTSTREAM_CLIENT_RAW_STREAM_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>

#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// Both block until the connection has taken the call or failed; an error shows at Finish(). `channel`, `context` and
// `response` must outlive the stream.
std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>> OpenRawPush(grpc::Channel& channel, grpc::ClientContext& context,
                                                                  v1::PushResponse& response);
std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> OpenRawPull(grpc::Channel& channel, grpc::ClientContext& context,
                                                                  const v1::PullRequest& request);

// `request` as EncodeBeginRequest makes it. Blocks until the call has ended.
grpc::Status CallRawBegin(grpc::Channel& channel, grpc::ClientContext& context, const grpc::ByteBuffer& request,
                          v1::BeginUpdateResponse& response);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_RAW_STREAM_H_
