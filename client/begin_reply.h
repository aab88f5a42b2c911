// BeginUpdate's request from a source, and its reply checked against the source.
#ifndef WEIGHTSTREAM_CLIENT_BEGIN_REPLY_H_
#define WEIGHTSTREAM_CLIENT_BEGIN_REPLY_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/manifest_index.h"
#include "client/planner.h"
#include "client/weight_source.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// A BeginUpdateRequest, serialized, and what it is about.
struct BeginMessage {
  uint64_t version = 0;
  grpc::ByteBuffer bytes;
};

// The message that begins, or resumes, `source` as a version of `model`. `manifest` is its tensors as EncodeManifest
// (proto/begin_codec.h) makes them, in the order of the layout, so that the server need not sort them once more.
BeginMessage MakeBeginMessage(const WeightSource& source, const grpc::Slice& manifest, const std::string& model,
                              uint64_t version, uint64_t bucket_limit_bytes);

// What a server misses.
struct Missing {
  // All that the tensors hold; it is then not listed, as there may be 100,000 of them.
  bool everything = false;
  // By ascending tensor.
  std::vector<MissingTensor> tensors = {};
};

// INTERNAL, naming the tensor, where the reply contradicts the manifest: a planner that trusted it would read outside
// the source.
absl::StatusOr<Missing> CheckBeginReply(const v1::BeginUpdateResponse& reply, const ManifestIndex& index);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_BEGIN_REPLY_H_
