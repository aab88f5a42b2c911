// The vocabulary of tensor/ to and from its messages. Pure; may be called from any thread.
#ifndef WEIGHTSTREAM_PROTO_CONVERT_H_
#define WEIGHTSTREAM_PROTO_CONVERT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "google/protobuf/map.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "tensor/byte_range.h"
#include "tensor/spec.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

v1::TensorSpec ToProto(const TensorSpec& spec);
// INVALID_ARGUMENT for an unknown dtype or a shape of more than kMaxTensorRank dimensions; names and sizes are
// ValidateManifest's to check.
absl::StatusOr<TensorSpec> FromProto(const v1::TensorSpec& spec);
absl::StatusOr<std::vector<TensorSpec>> FromProto(const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs);

// INVALID_ARGUMENT for a range whose end lies before its begin, or ranges that overlap or do not ascend. Ranges may
// touch and may be empty. Whether they lie within the tensor is the caller's to check.
absl::StatusOr<ByteRanges> FromProto(const v1::TensorRanges& ranges);
v1::TensorRanges ToProto(const std::string& name, const ByteRanges& ranges);

Metadata FromProto(const google::protobuf::Map<std::string, std::string>& metadata);
// Replaces what `out` held.
void ToProto(const Metadata& metadata, google::protobuf::Map<std::string, std::string>* out);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_CONVERT_H_
