#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "kernels/checksum.h"
#include "kernels/staging.h"
#include "tests/gpu/rates.h"

namespace weightstream {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);
// So much memory that it does not stay in a cache from one use to the next.
constexpr int kSourceRings = 4;

// Starts a copy for each chunk of the target, and waits for them all.
absl::Status EachChunk(const BenchmarkSizes& sizes, uint64_t chunk,
                       const std::function<void(uint64_t at, Device::CopyDone done)>& start) {
  absl::BlockingCounter left(static_cast<int>(sizes.target_bytes / chunk));
  absl::Mutex mutex;
  absl::Status first_error;
  for (uint64_t at = 0; at < sizes.target_bytes; at += chunk) {
    start(at, [&](absl::Status status) {
      {
        absl::MutexLock lock(&mutex);
        first_error.Update(status);
      }
      left.DecrementCount();
    });
  }
  left.Wait();
  return first_error;
}

std::string Size(uint64_t chunk) {
  return chunk % (1 << 20) == 0 ? absl::StrFormat("%d MiB", chunk >> 20) : absl::StrFormat("%d KiB", chunk >> 10);
}

class CopyRates {
 public:
  CopyRates(Device& device, const BenchmarkSizes& sizes, RateReport& report, Target& target, PinnedMemory& pinned)
      : device_(device), sizes_(sizes), report_(report), target_(target), pinned_(pinned) {
    source_.assign(kSourceRings * sizes.staging_bytes, 'w');
    std::memset(pinned.data(), 'w', pinned.bytes());
  }

  absl::Status Measure(uint64_t chunk) {
    const std::string ceiling = Ceiling(chunk);
    const auto alone = MedianRate(sizes_.target_bytes, sizes_.rounds, [&] { return CopyPinned(chunk); });
    if (!alone.ok()) return alone.status();
    report_.Add(ceiling, *alone);
    auto ring = StagingRing::Create(device_, sizes_.staging_bytes, chunk);
    if (!ring.ok()) return ring.status();
    const auto staged = MedianRate(sizes_.target_bytes, sizes_.rounds, [&] { return CopyStaged(**ring, chunk); });
    if (!staged.ok()) return staged.status();
    report_.Add(absl::StrFormat("memory to device through staging, chunks of %s", Size(chunk)), *staged, ceiling,
                chunk >= kPipelineGoalChunkBytes ? kPipelineGoal : 0);
    return absl::OkStatus();
  }

  absl::Status MeasureSmall() {
    const auto rate =
        MedianRate(sizes_.target_bytes, sizes_.rounds, [&] { return CopyPinned(sizes_.small_copy_bytes); });
    if (!rate.ok()) return rate.status();
    report_.Add(absl::StrFormat("pinned to device, copies of %s (many small tensors)", Size(sizes_.small_copy_bytes)),
                *rate, Ceiling(sizes_.stream_chunk_bytes));
    return absl::OkStatus();
  }

  absl::Status CopyPinned(uint64_t chunk) {
    return EachChunk(sizes_, chunk, [&](uint64_t at, Device::CopyDone done) {
      device_.CopyToTarget({pinned_.data() + at % pinned_.bytes(), chunk}, target_, at, std::move(done));
    });
  }

 private:
  static std::string Ceiling(uint64_t chunk) {
    return absl::StrFormat("pinned to device, chunks of %s (the ceiling)", Size(chunk));
  }

  absl::Status CopyStaged(StagingRing& ring, uint64_t chunk) {
    return EachChunk(sizes_, chunk, [&](uint64_t at, Device::CopyDone done) {
      absl::StatusOr<StagingSlot> slot = ring.Acquire(kPatience, nullptr);
      if (!slot.ok()) return done(slot.status());
      const auto held = std::make_shared<StagingSlot>(*std::move(slot));
      const absl::string_view source = absl::string_view(source_).substr(at % source_.size(), chunk);
      CopyAndExtendCrc32c(0, held->data(), source, Stores::kCached);
      device_.CopyToTarget({held->data(), chunk}, target_, at, [held, done = std::move(done)](absl::Status copied) {
        *held = StagingSlot();
        done(std::move(copied));
      });
    });
  }

  Device& device_;
  const BenchmarkSizes& sizes_;
  RateReport& report_;
  Target& target_;
  PinnedMemory& pinned_;
  std::string source_;
};

// So much is chance.
constexpr double kAsFast = 0.98;

// One count of streams, with memory of its own.
struct StreamContender {
  int streams;
  std::unique_ptr<Device> device;
  std::unique_ptr<Target> target;
  std::unique_ptr<PinnedMemory> pinned;
};

absl::StatusOr<StreamContender> OpenContender(
    int streams, const std::function<absl::StatusOr<std::unique_ptr<Device>>(int streams)>& open,
    const BenchmarkSizes& sizes) {
  absl::StatusOr<std::unique_ptr<Device>> device = open(streams);
  if (!device.ok()) return device.status();
  auto target = (*device)->CreateTarget({.bytes = sizes.target_bytes});
  if (!target.ok()) return target.status();
  auto pinned = (*device)->AllocatePinned(sizes.staging_bytes);
  if (!pinned.ok()) return pinned.status();
  return StreamContender{streams, *std::move(device), *std::move(target), *std::move(pinned)};
}

std::string Streams(int count) { return absl::StrFormat("%d stream%s", count, count == 1 ? "" : "s"); }

}  // namespace

absl::Status MeasureCopyStreams(const std::vector<int>& counts,
                                const std::function<absl::StatusOr<std::unique_ptr<Device>>(int streams)>& open,
                                const BenchmarkSizes& sizes, RateReport& report) {
  std::vector<StreamContender> contenders;
  std::vector<std::unique_ptr<CopyRates>> copies;
  std::vector<std::function<absl::Status()>> rounds;
  for (const int streams : counts) {
    absl::StatusOr<StreamContender> contender = OpenContender(streams, open, sizes);
    if (!contender.ok()) return contender.status();
    contenders.push_back(*std::move(contender));
    StreamContender& opened = contenders.back();
    copies.push_back(std::make_unique<CopyRates>(*opened.device, sizes, report, *opened.target, *opened.pinned));
    rounds.push_back([&copies = *copies.back(), &sizes] { return copies.CopyPinned(sizes.stream_chunk_bytes); });
  }
  const absl::StatusOr<std::vector<double>> rates = MedianRates(sizes.target_bytes, sizes.rounds, rounds);
  if (!rates.ok()) return rates.status();
  const double fastest = *std::max_element(rates->begin(), rates->end());
  int best = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    report.Add(
        absl::StrFormat("pinned to device, chunks of %s, %s", Size(sizes.stream_chunk_bytes), Streams(counts[i])),
        (*rates)[i]);
    if ((*rates)[i] >= kAsFast * fastest && (best == 0 || counts[i] < best)) best = counts[i];
  }
  report.Note(absl::StrFormat("best for copies: %s (--copy-streams)", Streams(best)));
  return absl::OkStatus();
}

absl::Status MeasureCopies(Device& device, const BenchmarkSizes& sizes, RateReport& report) {
  auto target = device.CreateTarget({.bytes = sizes.target_bytes});
  if (!target.ok()) return target.status();
  auto pinned = device.AllocatePinned(sizes.staging_bytes);
  if (!pinned.ok()) return pinned.status();
  CopyRates rates(device, sizes, report, **target, **pinned);
  for (const uint64_t chunk : sizes.chunk_bytes) {
    if (absl::Status measured = rates.Measure(chunk); !measured.ok()) return measured;
  }
  return rates.MeasureSmall();
}

}  // namespace weightstream
