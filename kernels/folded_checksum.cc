#include "kernels/folded_checksum.h"

#include <iterator>

#include "absl/base/config.h"
#include "kernels/crc32c_polynomials.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace weightstream {

#if defined(__x86_64__)

namespace {

#define WEIGHTSTREAM_FOLD_TARGET "avx512f,vpclmulqdq,pclmul,sse4.2"
// Inlined, so that sums stay in registers.
#define WEIGHTSTREAM_FOLDS inline __attribute__((always_inline, target(WEIGHTSTREAM_FOLD_TARGET)))

constexpr size_t kRegisterBytes = 64;
// As many as hide how long a multiplication takes.
constexpr size_t kRegisters = 4;
constexpr size_t kRoundBytes = kRegisters * kRegisterBytes;

// A page further on. In a loop of nothing else 1 GiB from memory took 0.073 s with it and 0.085 s without, with 8 and
// 16 KiB as long (Xeon); into the first-level cache, where lines are few, it took 0.076 s.
constexpr size_t kPrefetchBytes = 4096;

// With ordinary stores a copy of its own is faster, block by block: a push through staging had 0.89 of raw TCP with
// that, 0.79 with stores in here.
enum class Copying { kNone, kNonTemporal };

// What the low and the high half of 128 bits of the message are multiplied by to stand `bits` further on. The halves
// are 64 bits apart, of which the remainder's own 32 are half; a reflected product comes out one place too low.
template <int bits>
constexpr int64_t kLowPower = int64_t{crc32c::PowerOfX(bits + 32)} << 1;
template <int bits>
constexpr int64_t kHighPower = int64_t{crc32c::PowerOfX(bits - 32)} << 1;

// `earlier`, which stands `bits` before `later`, added to it.
template <int bits>
WEIGHTSTREAM_FOLDS __m512i Fold(__m512i earlier, __m512i later) {
  const __m512i powers = _mm512_set4_epi64(kHighPower<bits>, kLowPower<bits>, kHighPower<bits>, kLowPower<bits>);
  constexpr int kExclusiveOr = 0x96;
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(earlier, powers, 0x00),
                                   _mm512_clmulepi64_epi128(earlier, powers, 0x11), later, kExclusiveOr);
}

template <int bits>
WEIGHTSTREAM_FOLDS __m128i Fold(__m128i earlier, __m128i later) {
  const __m128i powers = _mm_set_epi64x(kHighPower<bits>, kLowPower<bits>);
  return _mm_xor_si128(
      _mm_xor_si128(_mm_clmulepi64_si128(earlier, powers, 0x00), _mm_clmulepi64_si128(earlier, powers, 0x11)), later);
}

// Of all that has been folded into `sums`, by P. For the last 128 bits the checksum's own instruction divides.
WEIGHTSTREAM_FOLDS uint32_t Remainder(const __m512i (&sums)[kRegisters]) {
  __m512i sum = sums[0];
#pragma GCC unroll 4
  for (size_t i = 1; i < kRegisters; ++i) sum = Fold<8 * kRegisterBytes>(sum, sums[i]);
  __m128i lanes[4];
  _mm512_storeu_si512(lanes, sum);
  __m128i last = lanes[0];
  for (size_t i = 1; i < std::size(lanes); ++i) last = Fold<128>(last, lanes[i]);
  const uint64_t first_half = _mm_crc32_u64(0, static_cast<uint64_t>(_mm_extract_epi64(last, 0)));
  return static_cast<uint32_t>(_mm_crc32_u64(first_half, static_cast<uint64_t>(_mm_extract_epi64(last, 1))));
}

template <Copying copying>
WEIGHTSTREAM_FOLDS __m512i Take(const char* source, char* destination, size_t at) {
  // The page may lie behind what there is: a hint that leads nowhere is no fault.
  _mm_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(source) + at + kPrefetchBytes), _MM_HINT_T1);
  const __m512i bytes = _mm512_loadu_si512(source + at);
  if constexpr (copying == Copying::kNonTemporal) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(destination + at), bytes);
  }
  return bytes;
}

// Requires size >= kRoundBytes, and a multiple of it.
template <Copying copying>
__attribute__((target(WEIGHTSTREAM_FOLD_TARGET))) uint32_t FoldAll(uint32_t shift_register, char* destination,
                                                                   const char* source, size_t size) {
  __m512i sums[kRegisters];
  // Unrolled, or the compiler keeps the sums in memory.
#pragma GCC unroll 4
  for (size_t i = 0; i < kRegisters; ++i) {
    sums[i] = Take<copying>(source, destination, i * kRegisterBytes);
  }
  // What came before is added to the first bytes of what follows.
  sums[0] = _mm512_xor_si512(sums[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int32_t>(shift_register))));
  for (size_t at = kRoundBytes; at < size; at += kRoundBytes) {
#pragma GCC unroll 4
    for (size_t i = 0; i < kRegisters; ++i) {
      sums[i] = Fold<8 * kRoundBytes>(sums[i], Take<copying>(source, destination, at + i * kRegisterBytes));
    }
  }
  return Remainder(sums);
}

template <Copying copying>
size_t FoldWhatCanBe(uint32_t& shift_register, char* destination, absl::string_view bytes) {
  // WEIGHTSTREAM_FOLD_TARGET, one by one.
  static const bool can_fold = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("vpclmulqdq") != 0 &&
                               __builtin_cpu_supports("pclmul") != 0 && __builtin_cpu_supports("sse4.2") != 0;
  const size_t size = can_fold ? bytes.size() / kRoundBytes * kRoundBytes : 0;
  if (size > 0) shift_register = FoldAll<copying>(shift_register, destination, bytes.data(), size);
  return size;
}

}  // namespace

size_t FoldChecksum(uint32_t& shift_register, absl::string_view bytes) {
  return FoldWhatCanBe<Copying::kNone>(shift_register, nullptr, bytes);
}

size_t FoldChecksumAndCopy(uint32_t& shift_register, char* destination, absl::string_view bytes) {
#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
  return 0;
#else
  return FoldWhatCanBe<Copying::kNonTemporal>(shift_register, destination, bytes);
#endif
}

#else

size_t FoldChecksum(uint32_t& /*shift_register*/, absl::string_view /*bytes*/) { return 0; }

size_t FoldChecksumAndCopy(uint32_t& /*shift_register*/, char* /*destination*/, absl::string_view /*bytes*/) {
  return 0;
}

#endif

}  // namespace weightstream
