#include "kernels/device_testing.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <system_error>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/fake_runtime.h"
#include "kernels/cuda/system_runtime.h"
#include "kernels/host_device.h"

namespace weightstream {
namespace {

constexpr absl::Duration kLongestWait = absl::Minutes(1);

class TemporaryFolder {
 public:
  TemporaryFolder() {
    for (const std::string& parent : {std::string("/dev/shm"), testing::TempDir()}) {
      path_ = parent + "/weightstream-test-XXXXXX";
      if (mkdtemp(path_.data()) != nullptr) return;
    }
    ADD_FAILURE() << "no temporary folder can be made";
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

absl::StatusOr<std::unique_ptr<Device>> OpenCuda(CudaRuntime* runtime) {
  auto device = CudaDevice::Open(runtime, CudaDeviceOptions());
  if (!device.ok()) return device.status();
  return std::unique_ptr<Device>(*std::move(device));
}

std::unique_ptr<Device> OverFakeCuda(absl::Duration latency) {
  // Lives as long as the process: the device must not outlive it. The reference keeps it reachable for leak checkers.
  static std::vector<std::unique_ptr<FakeCudaRuntime>>& runtimes = *new std::vector<std::unique_ptr<FakeCudaRuntime>>;
  FakeCudaOptions options;
  options.latency = latency;
  runtimes.push_back(std::make_unique<FakeCudaRuntime>(options));
  return OpenCuda(runtimes.back().get()).value();
}

}  // namespace

std::vector<DeviceBackend> DeviceBackends() {
  return {
      {"Host", [] { return NewHostDevice(); }, testing::TempDir()},
      {"HostInSharedMemory", [] { return NewHostDevice(); }, SharedMemoryFolder()},
      {"HostWithHugePages", [] { return NewHostDevice({.huge_pages = true}); }, SharedMemoryFolder()},
      {"DeviceLike", [] { return NewHostDevice({.device_like = true}); }, SharedMemoryFolder()},
      {"SlowDeviceLike",
       [] { return NewHostDevice({.device_like = true, .copy_latency = absl::Microseconds(500), .shuffle_seed = 7}); },
       SharedMemoryFolder()},
      {"HostMemory",
       [] { return NewHostDevice({.device_like = true, .memory = std::make_shared<HostRoom>(uint64_t{1} << 40)}); },
       ""},
      {"CudaOverFakeRuntime", [] { return OverFakeCuda(absl::ZeroDuration()); }, ""},
      {"CudaOverSlowFakeRuntime", [] { return OverFakeCuda(absl::Microseconds(200)); }, ""},
      {"Cuda", [] { return OpenCuda(SystemCudaRuntime()).value(); }, "",
       std::string(OpenCuda(SystemCudaRuntime()).status().message())},
  };
}

const std::string& SharedMemoryFolder() {
  static const TemporaryFolder folder;
  return folder.path();
}

TargetFile::TargetFile(const std::string& folder) : path_(folder + "/target-XXXXXX") {
  const int fd = mkstemp(path_.data());
  EXPECT_GE(fd, 0) << path_;
  if (fd >= 0) close(fd);
}

TargetFile::~TargetFile() { unlink(path_.c_str()); }

std::string TargetFile::Read() const {
  std::ifstream in(path_, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void TargetFile::Write(const std::string& bytes) const {
  std::ofstream out(path_, std::ios::binary | std::ios::trunc);
  out << bytes;
  EXPECT_TRUE(out.flush().good()) << path_;
}

std::string RandomBytes(uint64_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  uint64_t word = 0;
  for (uint64_t i = 0; i < size; ++i) {
    if (i % 8 == 0) word = random();
    bytes[i] = static_cast<char>(word >> (i % 8 * 8));
  }
  return bytes;
}

Device::CopyDone CopyResults::Expect() {
  absl::MutexLock lock(&mutex_);
  ++pending_;
  calls_.push_back(0);
  return [this, copy = calls_.size() - 1](absl::Status status) {
    absl::MutexLock lock(&mutex_);
    --pending_;
    ++calls_[copy];
    if (first_error_.ok()) first_error_ = std::move(status);
  };
}

absl::Status CopyResults::Wait() {
  absl::MutexLock lock(&mutex_);
  // lint-allow(monotonic-waits): a test's patience.
  if (!mutex_.AwaitWithTimeout(absl::Condition(this, &CopyResults::AllDone), kLongestWait)) {
    return absl::DeadlineExceededError("a copy was not done in time");
  }
  return first_error_;
}

std::vector<int> CopyResults::calls() const {
  absl::MutexLock lock(&mutex_);
  return calls_;
}

}  // namespace weightstream
