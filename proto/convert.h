// The vocabulary of tensor/ to and from its messages.
#ifndef WEIGHTSTREAM_PROTO_CONVERT_H_
#define WEIGHTSTREAM_PROTO_CONVERT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "tensor/byte_range.h"
#include "tensor/spec.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

v1::TensorSpec ToProto(const TensorSpec& spec);
// INVALID_ARGUMENT for an unknown dtype; names and sizes are ValidateManifest's to check.
absl::StatusOr<TensorSpec> FromProto(const v1::TensorSpec& spec);
absl::StatusOr<std::vector<TensorSpec>> FromProto(const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs);

// INVALID_ARGUMENT for a range whose end lies before its begin, or ranges that overlap or do not ascend.
absl::StatusOr<std::vector<ByteRange>> FromProto(const v1::TensorRanges& ranges);
v1::TensorRanges ToProto(const std::string& name, const std::vector<ByteRange>& ranges);

Metadata FromProto(const google::protobuf::Map<std::string, std::string>& metadata);
void ToProto(const Metadata& metadata, google::protobuf::Map<std::string, std::string>* out);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_CONVERT_H_
