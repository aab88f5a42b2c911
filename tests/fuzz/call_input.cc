#include "tests/fuzz/call_input.h"

namespace weightstream {
namespace {

constexpr uint64_t kTurns[] = {
    ~uint64_t{0},
    ~uint64_t{0} - 1,
    uint64_t{1} << 63,
    (uint64_t{1} << 63) - 1,
    uint64_t{1} << 32,
    0xffffffff,
    uint64_t{1} << 31,
    (uint64_t{1} << 31) - 1,
    uint64_t{1} << 20,
    (uint64_t{1} << 20) + 1,
    uint64_t{64} << 10,
    uint64_t{4} << 10,
    (uint64_t{4} << 10) + 1,
    1000,
    240,
};

}  // namespace

uint8_t CallInput::Byte() {
  if (rest_.empty()) return 0;
  const auto byte = static_cast<uint8_t>(rest_.front());
  rest_.remove_prefix(1);
  return byte;
}

uint64_t CallInput::Number() {
  const uint8_t first = Byte();
  if (first < kFirstSpecialByte) return first;
  if (first != 0xff) return kTurns[first - kFirstSpecialByte];
  uint64_t number = 0;
  for (int i = 0; i < 8; ++i) number |= uint64_t{Byte()} << (8 * i);
  return number;
}

std::string CallInput::Text() {
  const size_t length = Byte();
  const absl::string_view text = rest_.substr(0, length);
  rest_.remove_prefix(text.size());
  return std::string(text);
}

bool CallInput::TakeSpecial() {
  if (rest_.empty() || static_cast<uint8_t>(rest_.front()) < kFirstSpecialByte) return false;
  rest_.remove_prefix(1);
  return true;
}

}  // namespace weightstream
