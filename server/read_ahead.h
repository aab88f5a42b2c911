// Asks gRPC for a stream's next message before the last one has been dealt with.
//
// gRPC opens HTTP/2's window of a connection for a message that somebody has asked for, and little further. Its own
// synchronous reader asks in Read(): for as long as a handler deals with a message, hardly anything of the next one
// comes, and both ends wait and are woken once more for its rest. Here it is asked for as soon as the last one has
// come, and crosses the network in one go. It is one message ahead and no more: beyond that not reading is the brake,
// as ever.
#ifndef WEIGHTSTREAM_SERVER_READ_AHEAD_H_
#define WEIGHTSTREAM_SERVER_READ_AHEAD_H_

#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include <functional>
#include <memory>

#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// Serves one call on its thread. The reader is for that thread alone, and for as long as the call is served. It need
// not be read to its end: a message that was asked for and not taken is dropped with the call.
using ServeMessages = std::function<grpc::Status(
    grpc::ServerContext* context, grpc::ServerReaderInterface<grpc::ByteBuffer>* reader, v1::PushResponse* response)>;

// A method of a synchronous service whose client streams, for grpc::internal::RpcServiceMethod.
std::unique_ptr<grpc::internal::MethodHandler> NewReadAheadHandler(ServeMessages serve);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_READ_AHEAD_H_
