// A hash that is the same in every process, on every machine and in every release, unlike absl::Hash.
#ifndef WEIGHTSTREAM_TENSOR_STABLE_HASH_H_
#define WEIGHTSTREAM_TENSOR_STABLE_HASH_H_

#include <cstdint>
#include <string>

#include "absl/numeric/int128.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// 128-bit FNV-1a (Fowler, Noll, Vo; constants as in draft-eastlake-fnv). Good for telling things apart by accident, not
// against someone who looks for collisions. Some 1 GB/s at best: for names and numbers, not for weights. Not
// thread-safe.
class StableHash {
 public:
  // Takes the length in as well, so that {"ab", "c"} and {"a", "bc"} differ.
  void AddString(absl::string_view text);
  // Eight bytes, little-endian.
  void AddNumber(uint64_t number);
  // Nothing but the bytes themselves: FNV-1a as published.
  void AddBytes(absl::string_view bytes);

  // 32 hexadecimal digits.
  std::string Hex() const;

 private:
  absl::uint128 state_ = absl::MakeUint128(0x6c62272e07bb0142, 0x62b821756295c58d);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_STABLE_HASH_H_
