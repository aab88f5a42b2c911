#include "proto/begin_codec_testing.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>

namespace weightstream {

std::string CanonicalBytes(v1::BeginUpdateRequest request) {
  const auto forget_unknown_fields = [](google::protobuf::Message& message) {
    message.GetReflection()->MutableUnknownFields(&message)->Clear();
  };
  forget_unknown_fields(request);
  for (v1::TensorSpec& tensor : *request.mutable_tensors()) forget_unknown_fields(tensor);

  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  request.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

bool MayHoldWideTag(absl::string_view message) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(message[at]); };
  for (size_t last = 4; last < message.size(); ++last) {
    const bool continued = std::all_of(message.begin() + (last - 4), message.begin() + last,
                                       [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
    if (continued && byte(last) > 0x0f && byte(last) < 0x80) return true;
  }
  return false;
}

}  // namespace weightstream
