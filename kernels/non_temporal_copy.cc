#include "kernels/non_temporal_copy.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/base/config.h"

#if defined(__x86_64__) && !defined(ABSL_HAVE_ADDRESS_SANITIZER) && !defined(ABSL_HAVE_THREAD_SANITIZER)
#define WEIGHTSTREAM_HAS_NON_TEMPORAL_STORES
#include <immintrin.h>
#endif

namespace weightstream {

#ifdef WEIGHTSTREAM_HAS_NON_TEMPORAL_STORES

namespace {

// Half a line a store. For a copy alone AVX-512's whole lines were no faster in a push, and SSE2's quarters no faster
// than memcpy, though in a loop of nothing else they are: what is written in the meantime ends the combining of a
// line's parts.
__attribute__((target("avx2"))) void CopyLines(char* destination, const char* source, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kCacheLineBytes) {
    const auto* from = reinterpret_cast<const __m256i*>(source + at);
    auto* to = reinterpret_cast<__m256i*>(destination + at);
    const __m256i first = _mm256_loadu_si256(from);
    const __m256i second = _mm256_loadu_si256(from + 1);
    _mm256_stream_si256(to, first);
    _mm256_stream_si256(to + 1, second);
  }
}

}  // namespace

void NonTemporalCopy(char* destination, absl::string_view bytes) {
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  const size_t head = std::min(BytesToLine(destination), bytes.size());
  const size_t lines = has_avx2 ? (bytes.size() - head) / kCacheLineBytes * kCacheLineBytes : 0;
  std::memcpy(destination, bytes.data(), head);
  if (lines > 0) CopyLines(destination + head, bytes.data() + head, lines);
  const absl::string_view rest = bytes.substr(head + lines);
  std::memcpy(destination + head + lines, rest.data(), rest.size());
}

void NonTemporalFence() { _mm_sfence(); }

#else

void NonTemporalCopy(char* destination, absl::string_view bytes) {
  std::memcpy(destination, bytes.data(), bytes.size());
}

void NonTemporalFence() {}

#endif

}  // namespace weightstream
