// The JSON of a safetensors header, read into tensors: the first half of ParseSafetensors, which places them.
#ifndef WEIGHTSTREAM_TENSOR_SAFETENSORS_HEADER_H_
#define WEIGHTSTREAM_TENSOR_SAFETENSORS_HEADER_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

struct SafetensorsHeader {
  // In the order of the JSON. Each one's range is as long as its dtype and shape say; how they lie to each other is not
  // looked at.
  std::vector<PlacedTensor> tensors;
  Metadata metadata;
};

// `json` is the header without its length, with its padding. INVALID_ARGUMENT as ParseSafetensors. Pure, any thread.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view path, absl::string_view json);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_SAFETENSORS_HEADER_H_
