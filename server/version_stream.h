// The Pull and DigestModel calls: read committed versions where they lie.
#ifndef WEIGHTSTREAM_SERVER_VERSION_STREAM_H_
#define WEIGHTSTREAM_SERVER_VERSION_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/sync_stream.h>

#include "absl/status/status.h"
#include "server/call_environment.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// Bytes that one CRC32C of a TensorDigest covers: small enough to say where a difference is, large enough that digests
// are small.
inline constexpr uint64_t kDigestBlockBytes = 16 << 20;

// Each serves one call on the calling thread. The version stays readable to its end, whatever is committed or removed
// meanwhile.
absl::Status ServePull(const CallEnvironment& environment, grpc::ServerContext* context, const v1::PullRequest& request,
                       grpc::ServerWriterInterface<grpc::ByteBuffer>* writer);
absl::Status ServeDigest(const CallEnvironment& environment, grpc::ServerContext* context,
                         const v1::DigestModelRequest& request, grpc::ServerWriterInterface<v1::TensorDigest>* writer);
absl::Status ServeManifest(const CallEnvironment& environment, const v1::GetManifestRequest& request,
                           v1::Manifest* response);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_VERSION_STREAM_H_
