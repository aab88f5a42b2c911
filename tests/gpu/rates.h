// What the GPU benchmark measures: each function a group of rates, over the seam, so that a test can run them over
// devices without a GPU. What has no room on the machine is left out with the reason.
#ifndef WEIGHTSTREAM_TESTS_GPU_RATES_H_
#define WEIGHTSTREAM_TESTS_GPU_RATES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/runtime.h"
#include "kernels/device.h"
#include "tests/gpu/goals.h"

namespace weightstream {

struct BenchmarkSizes {
  // A target, and the version of a push. Multiples of 64 MiB on a GPU.
  uint64_t target_bytes = uint64_t{1} << 30;
  uint64_t staging_bytes = uint64_t{64} << 20;
  std::vector<uint64_t> chunk_bytes = {uint64_t{1} << 20, uint64_t{4} << 20, uint64_t{16} << 20};
  // Of the copies that streams are compared by: what a sender uses by default, or more.
  uint64_t stream_chunk_bytes = uint64_t{4} << 20;
  // Of the copies that chunks of many small tensors take.
  uint64_t small_copy_bytes = uint64_t{4} << 10;
  uint64_t push_bytes = uint64_t{2} << 30;
  // The median of this many, after one that warms up.
  int rounds = 5;
  // How often a kernel is started in a round: one alone would be over before it could be timed well.
  int kernel_repeats = 10;
};

// Rates in GB/s by name, in the order in which they came; printed as they come.
class RateReport {
 public:
  // With another rate's name, also as a share of that; and where a share of it is to be reached, whether it is.
  void Add(const std::string& name, double rate, const std::string& of = "", double to_reach = 0);
  // What follows from the rates.
  void Note(const std::string& text);
  // What was not measured, and why.
  void Skip(const std::string& name, const std::string& why);

  const std::vector<RateRow>& rows() const { return rows_; }
  // 0 if it was not measured.
  double rate(const std::string& name) const;

 private:
  std::vector<RateRow> rows_;
};

// The median rate of `rounds` rounds that move that many bytes each, in GB/s; or the first error.
absl::StatusOr<double> MedianRate(uint64_t bytes, int rounds, const std::function<absl::Status()>& round);

// The same of several, in rounds that are interleaved: what else the machine does meets all alike.
absl::StatusOr<std::vector<double>> MedianRates(uint64_t bytes, int rounds,
                                                const std::vector<std::function<absl::Status()>>& contenders);

// Pinned memory to the device, by chunk size: the ceiling; and from pageable memory through checksum and staging, on
// one thread: all of a chunk's way but the network. Then the same bytes in copies of a small tensor's size each, as a
// share of what one copy a chunk reaches: a kernel that scatters a chunk could gain the rest, and no more.
absl::Status MeasureCopies(Device& device, const BenchmarkSizes& sizes, RateReport& report);

// Copies from pinned memory on so many streams, by devices that `open` gives for each count; notes the best, which of
// those that are within 2 % of the fastest is the one with the fewest.
absl::Status MeasureCopyStreams(const std::vector<int>& counts,
                                const std::function<absl::StatusOr<std::unique_ptr<Device>>(int streams)>& open,
                                const BenchmarkSizes& sizes, RateReport& report);

// A copy within device memory, which is what its bandwidth is taken to be; digest and casts as shares of it, each by
// the bytes that it reads and writes; and the digest by way of the device, reading back and joining included.
absl::Status MeasureKernels(CudaRuntime& runtime, Device& device, const BenchmarkSizes& sizes, RateReport& report);

// A server that is pushed to over loopback, for comparison with others.
struct PushContender {
  std::string name;
  // Of the row that its rate is shown as a share of; may be empty.
  std::string of;
  std::function<absl::StatusOr<std::unique_ptr<Device>>()> open_device;
  // The share of that row that is to be reached; 0 where there is none.
  double to_reach = 0;
};

// Whole pushes, commit included, in rounds that are interleaved. The versions of host targets lie below `data_dir`.
absl::Status MeasurePushes(const std::vector<PushContender>& contenders, const std::string& data_dir,
                           const BenchmarkSizes& sizes, RateReport& report);

// One more push to the first of them, traced: prints how far receiving and copying overlap, and the middle as text, and
// writes it as a picture where a path is given.
absl::Status TracePush(const PushContender& contender, const std::string& data_dir, const BenchmarkSizes& sizes,
                       const std::string& svg_path);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_GPU_RATES_H_
