// A fuzzer's input read as the arguments of calls. Every input is a sequence of calls: what is not there reads as 0.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_CALL_INPUT_H_
#define WEIGHTSTREAM_TESTS_FUZZ_CALL_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace weightstream {

// From here on a byte is no small number or choice, but announces something out of the ordinary.
inline constexpr uint8_t kFirstSpecialByte = 0xf0;

// Views the input, which must outlive it. Not thread-safe.
class CallInput {
 public:
  explicit CallInput(absl::string_view bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }

  uint8_t Byte();
  // A choice out of `count`, at least 1.
  size_t Below(size_t count) { return Byte() % count; }
  // A byte below 0xf0 is a small number; 0xf0 to 0xfe are values at which arithmetic turns; 0xff is followed by all
  // eight bytes of one, the lowest first.
  uint64_t Number();
  // One byte of length, so many bytes.
  std::string Text();
  // Whether the next byte is a special one, which it then takes.
  bool TakeSpecial();

 private:
  absl::string_view rest_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_FUZZ_CALL_INPUT_H_
