#include "kernels/non_temporal_copy.h"

#include <gtest/gtest.h>

#include <string>

namespace weightstream {
namespace {

constexpr size_t kLine = kCacheLineBytes;

std::string CountingBytes(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 256);
  return bytes;
}

// Every way in which both ends can lie in their lines, with no whole line, one, and several between.
TEST(NonTemporalCopyTest, CopiesTheBytesAndNothingBesideThem) {
  const std::string source = CountingBytes(6 * kLine);
  for (size_t start = 0; start < kLine; ++start) {
    for (size_t size = 0; size <= 4 * kLine; ++size) {
      std::string place(8 * kLine, '#');
      NonTemporalCopy(place.data() + start, absl::string_view(source.data() + size % 17, size));
      NonTemporalFence();
      const std::string expected =
          std::string(start, '#') + source.substr(size % 17, size) + std::string(place.size() - start - size, '#');
      ASSERT_TRUE(place == expected) << size << " bytes to " << start;
    }
  }
}

}  // namespace
}  // namespace weightstream
