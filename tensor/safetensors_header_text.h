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
  uint64_t bytes() const { return used_ + 1; }

  // Blanks pad it to `data_start` bytes, if it is shorter.
  std::string Finish(uint64_t data_start) &&;

 private:
  // What stands between the name and the offsets, for the dtype and the shape of `spec`.
  void SetWords(const TensorSpec& spec);
  // Where the text goes on, with room for so many bytes; used_ is the caller's to raise.
  char* Room(size_t bytes);

  // Of which used_ bytes are the text.
  std::string text_;
  size_t used_ = 0;
  bool first_ = true;
  // Most tensors are of the dtype and the shape of the one before, and start where that ends.
  std::string words_;
  DType words_dtype_ = DType::kU8;
  Shape words_shape_;
  uint64_t last_end_ = 0;
  std::string last_end_digits_ = "0";
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_SAFETENSORS_HEADER_TEXT_H_
