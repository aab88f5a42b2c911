// What tests of devices have in common: the list of backends, files for targets, and waiting for copies.
#ifndef WEIGHTSTREAM_KERNELS_DEVICE_TESTING_H_
#define WEIGHTSTREAM_KERNELS_DEVICE_TESTING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "kernels/device.h"

namespace weightstream {

// One implementation of Device, to be held to the contract.
struct DeviceBackend {
  // CamelCase: it becomes part of the tests' names.
  std::string name;
  std::function<std::unique_ptr<Device>()> make;
  // Where the files of targets go; empty for a backend without files.
  std::string folder;
  // Why it cannot be tested on this machine; empty where it can. Each of its cases is then skipped, by name.
  std::string missing = {};
};

inline void PrintTo(const DeviceBackend& backend, std::ostream* out) { *out << backend.name; }

// All of them, those that are missing on this machine too. Another backend is one more entry.
std::vector<DeviceBackend> DeviceBackends();

// A folder of its own on tmpfs, or in the test's temporary folder where there is no /dev/shm. Removed at exit.
const std::string& SharedMemoryFolder();

// An empty file that is removed on destruction.
class TargetFile {
 public:
  explicit TargetFile(const std::string& folder);
  ~TargetFile();
  TargetFile(const TargetFile&) = delete;
  TargetFile& operator=(const TargetFile&) = delete;

  const std::string& path() const { return path_; }
  std::string Read() const;
  void Write(const std::string& bytes) const;

 private:
  std::string path_;
};

// Reproducible bytes without a pattern that a misplaced copy could hit by luck.
std::string RandomBytes(uint64_t size, uint64_t seed);

// Collects the results of copies. Thread-safe; must outlive the copies.
class CopyResults {
 public:
  // For one copy.
  Device::CopyDone Expect();

  // The first error, or OK once every expected copy is done; DEADLINE_EXCEEDED after a minute.
  absl::Status Wait();

  // How often the copies' `done` were called, in the order of Expect.
  std::vector<int> calls() const;

 private:
  bool AllDone() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return pending_ <= 0; }

  mutable absl::Mutex mutex_;
  int64_t pending_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status first_error_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_DEVICE_TESTING_H_
