// BeginUpdateRequest to and from grpc::ByteBuffer without a message of the generated code for each tensor,
// wire-compatible with it. A manifest may have 100,000 tensors: to build, serialize, parse, convert and free that many
// messages takes several times as long as to write and read the bytes.
//
// Field meanings and limits: weightstream.proto. Any thread.
#ifndef WEIGHTSTREAM_PROTO_BEGIN_CODEC_H_
#define WEIGHTSTREAM_PROTO_BEGIN_CODEC_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tensor/spec.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

struct BeginRequest {
  // All but `tensors`, which it leaves empty.
  v1::BeginUpdateRequest fields;
  std::vector<TensorSpec> tensors;
  // OK unless the message has a tensor that there cannot be, and then what FromProto (convert.h) says of the first: an
  // unknown dtype, too many dimensions. `tensors` ends before it. Names and sizes are ValidateManifest's to check.
  absl::Status manifest;
  // The tensors' part of the message, where that is nothing but tensors to its end; else empty. What is over
  // kMostKnownManifestBytes is not kept either.
  std::string wire;
  // It is what `known` returned, and was not read: there are no `tensors`.
  bool is_known = false;

  // As those of a message.
  const std::string& model() const { return fields.model(); }
  static const google::protobuf::Descriptor* descriptor() { return v1::BeginUpdateRequest::descriptor(); }
};

// The manifest's part of a request, tensors[order[0]] first. It may go into any number of requests.
grpc::Slice EncodeManifest(absl::Span<const TensorSpec> tensors, absl::Span<const uint32_t> order);

// Requires that `fields` has no tensors of its own. Borrows the manifest's bytes.
grpc::ByteBuffer EncodeBeginRequest(const v1::BeginUpdateRequest& fields, const grpc::Slice& manifest);

// Read and laid out, a manifest takes about four times its bytes: what is larger than this would take all the room that
// a server has for those which may come again (model_registry.cc), and be copied for nothing.
inline constexpr size_t kMostKnownManifestBytes = 16 << 20;

// Told of the fields before the first tensor, returns what an earlier manifest's `wire` was, which could be read and
// had no error; empty if there is none.
using FindKnownManifest = std::function<absl::string_view(const v1::BeginUpdateRequest& fields)>;

// Replaces what `request` held. False if the bytes are no BeginUpdateRequest, to the generated code either: cut,
// damaged, or with a text that is not UTF-8; or if a field number is above 2^29-1, where that code drops bits. Needs no
// trust in the input; allocates no more than a small multiple of it.
bool ParseBeginRequest(const grpc::ByteBuffer& message, BeginRequest& request,
                       const FindKnownManifest& known = nullptr);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_BEGIN_CODEC_H_
