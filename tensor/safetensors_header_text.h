// Writes the header of a safetensors file. Private to safetensors_layout.
#ifndef WEIGHTSTREAM_TENSOR_SAFETENSORS_HEADER_TEXT_H_
#define WEIGHTSTREAM_TENSOR_SAFETENSORS_HEADER_TEXT_H_

#include <cstdint>
#include <string>

#include "tensor/byte_range.h"
#include "tensor/spec.h"

namespace weightstream {

// Length, JSON without blanks, the shortest text that says it, and padding. Tensor by tensor and without a string for
// each part: 100,000 tensors are written at both ends of every BeginUpdate.
//
//   HeaderText text(metadata, tensors.size());
//   for (...) text.Add(spec, range);
//   return std::move(text).Finish(data_start);
class HeaderText {
 public:
  // `tensors` is how many are expected: only so that the text need not be moved as it grows.
  HeaderText(const Metadata& metadata, size_t tensors);

  void Add(const TensorSpec& spec, const ByteRange& range);

  // Of the whole without padding: the least data_start that there can be.
  uint64_t bytes() const { return text_.size() + 1; }

  // Blanks pad it to `data_start` bytes, if it is shorter.
  std::string Finish(uint64_t data_start) &&;

 private:
  std::string text_;
  bool first_ = true;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_SAFETENSORS_HEADER_TEXT_H_
