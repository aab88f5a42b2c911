#include "tensor/stable_hash.h"

#include "absl/strings/str_cat.h"

namespace weightstream {

void StableHash::AddBytes(absl::string_view bytes) {
  constexpr absl::uint128 kPrime = absl::MakeUint128(0x0000000001000000, 0x000000000000013b);  // 2^88 + 0x13b
  for (const char byte : bytes) {
    state_ ^= static_cast<uint8_t>(byte);
    state_ *= kPrime;
  }
}

void StableHash::AddNumber(uint64_t number) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(number >> (8 * i));
  AddBytes(absl::string_view(bytes, sizeof(bytes)));
}

void StableHash::AddString(absl::string_view text) {
  AddNumber(text.size());
  AddBytes(text);
}

std::string StableHash::Hex() const {
  return absl::StrCat(absl::Hex(absl::Uint128High64(state_), absl::kZeroPad16),
                      absl::Hex(absl::Uint128Low64(state_), absl::kZeroPad16));
}

}  // namespace weightstream
