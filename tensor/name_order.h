// Sorts tensors by name. Private to safetensors_layout.
#ifndef WEIGHTSTREAM_TENSOR_NAME_ORDER_H_
#define WEIGHTSTREAM_TENSOR_NAME_ORDER_H_

#include <cstdint>

#include "absl/types/span.h"
#include "tensor/spec.h"

namespace weightstream {

// Brings `order`, indices into `tensors`, into the order of their names' bytes. The time is in proportion to the names'
// bytes, whatever their order: 100,000 names that end in a number come in the order of the numbers, on which std::sort
// falls back to sorting by a heap.
void SortByName(absl::Span<const TensorSpec> tensors, absl::Span<uint32_t> order);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_NAME_ORDER_H_
