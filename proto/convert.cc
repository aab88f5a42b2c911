#include "proto/convert.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tensor/dtype.h"

namespace weightstream {

v1::TensorSpec ToProto(const TensorSpec& spec) {
  v1::TensorSpec message;
  message.set_name(spec.name);
  const absl::string_view dtype = DTypeName(spec.dtype);
  message.set_dtype(dtype.data(), dtype.size());
  message.mutable_shape()->Add(spec.shape.begin(), spec.shape.end());
  return message;
}

absl::StatusOr<TensorSpec> FromProto(const v1::TensorSpec& spec) {
  absl::StatusOr<DType> dtype = ParseDType(spec.dtype());
  if (!dtype.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", Printable(spec.name()), "\": ", dtype.status().message()));
  }
  if (static_cast<size_t>(spec.shape_size()) > kMaxTensorRank) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", Printable(spec.name()), "\": the shape has ",
                                                   spec.shape_size(), " dimensions; at most ", kMaxTensorRank,
                                                   " are allowed: flatten some"));
  }
  return TensorSpec{spec.name(), *dtype, Shape(spec.shape().begin(), spec.shape().end())};
}

absl::StatusOr<std::vector<TensorSpec>> FromProto(const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs) {
  std::vector<TensorSpec> result;
  result.reserve(static_cast<size_t>(specs.size()));
  for (const v1::TensorSpec& message : specs) {
    absl::StatusOr<TensorSpec> spec = FromProto(message);
    if (!spec.ok()) return spec.status();
    result.push_back(*std::move(spec));
  }
  return result;
}

absl::StatusOr<ByteRanges> FromProto(const v1::TensorRanges& ranges) {
  ByteRanges result;
  result.reserve(static_cast<size_t>(ranges.ranges_size()));
  for (const v1::ByteRange& range : ranges.ranges()) {
    if (range.end() < range.begin()) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", Printable(ranges.name()), "\": byte range [",
                                                     range.begin(), ", ", range.end(),
                                                     ") ends before it begins; swap its ends"));
    }
    if (!result.empty() && range.begin() < result.back().end) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", Printable(ranges.name()), "\": byte range [",
                                                     range.begin(), ", ", range.end(), ") overlaps or precedes [",
                                                     result.back().begin, ", ", result.back().end,
                                                     "); send disjoint, ascending ranges"));
    }
    result.push_back(ByteRange{range.begin(), range.end()});
  }
  return result;
}

v1::TensorRanges ToProto(const std::string& name, const ByteRanges& ranges) {
  v1::TensorRanges message;
  message.set_name(name);
  message.mutable_ranges()->Reserve(static_cast<int>(ranges.size()));
  for (const ByteRange& range : ranges) {
    v1::ByteRange* out = message.add_ranges();
    out->set_begin(range.begin);
    out->set_end(range.end);
  }
  return message;
}

Metadata FromProto(const google::protobuf::Map<std::string, std::string>& metadata) {
  return Metadata(metadata.begin(), metadata.end());
}

void ToProto(const Metadata& metadata, google::protobuf::Map<std::string, std::string>* out) {
  out->clear();
  for (const auto& [key, value] : metadata) (*out)[key] = value;
}

}  // namespace weightstream
