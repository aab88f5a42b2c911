// Bounds gRPC's own reflection service, which spends a thread on each of its streams as Push does, and knows no limit.
#ifndef WEIGHTSTREAM_SERVER_REFLECTION_CALLS_H_
#define WEIGHTSTREAM_SERVER_REFLECTION_CALLS_H_

#include <grpcpp/support/server_interceptor.h>

#include <memory>

#include "server/open_calls.h"

namespace weightstream {

// Has reflection's streams counted among `calls`, and cut if they say nothing. Other methods are left alone, at no cost
// to them. `calls` outlives the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewReflectionBounds(OpenCalls& calls);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_REFLECTION_CALLS_H_
