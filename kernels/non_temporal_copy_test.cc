#include "kernels/non_temporal_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace weightstream {
namespace {

constexpr size_t kLine = 64;

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

// A thread that learns of the copy from a plain release store sees all of it. Without the fence most runs find rounds,
// up to a thousand, that see old bytes. Bounded by time too: on a busy machine a round may take long.
TEST(NonTemporalCopyTest, IsSeenByWhoeverIsToldOfItAfterTheFence) {
  constexpr int kMaxRounds = 400'000;
  constexpr int kStop = -1;
  const absl::Time deadline = absl::Now() + absl::Seconds(3);
  alignas(kLine) char place[kLine] = {};
  std::atomic<int> copied{0};
  std::atomic<int> looked{0};
  std::atomic<int> stale{0};
  std::thread reader([&] {
    for (int round = 1;; ++round) {
      int told;
      while ((told = copied.load(std::memory_order_acquire)) != round && told != kStop) {
      }
      if (told == kStop) return;
      if (std::any_of(std::begin(place), std::end(place),
                      [round](char byte) { return byte != static_cast<char>(round); })) {
        stale.fetch_add(1);
      }
      looked.store(round, std::memory_order_release);
    }
  });
  std::string source(kLine, ' ');
  for (int round = 1; round <= kMaxRounds && absl::Now() < deadline; ++round) {
    source.assign(kLine, static_cast<char>(round));
    NonTemporalCopy(place, absl::string_view(source.data(), source.size()));
    NonTemporalFence();
    copied.store(round, std::memory_order_release);
    while (looked.load(std::memory_order_acquire) != round) {
    }
  }
  copied.store(kStop);
  reader.join();
  EXPECT_EQ(stale.load(), 0);
}

}  // namespace
}  // namespace weightstream
