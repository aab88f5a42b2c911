// A CUDA runtime without a GPU, for tests: devices made of host memory, a thread for each stream, events, IPC handles,
// and an error wherever a test wants one.
//
// It is as strict as CUDA, or stricter: memory that was never allocated, or not on the device, a copy from memory that
// is not page-locked, a handle that was destroyed, a kernel on memory outside an allocation are errors, and are
// counted as misuse. Streams run independently of one another, and what a copy reads is read when its turn comes, not
// when it was queued. A sticky error stays: every later call on that device returns it.
#ifndef WEIGHTSTREAM_KERNELS_CUDA_FAKE_RUNTIME_H_
#define WEIGHTSTREAM_KERNELS_CUDA_FAKE_RUNTIME_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "kernels/cuda/error_codes.h"
#include "kernels/cuda/runtime.h"

namespace weightstream {

class FakeCudaStream;

struct FakeCudaOptions {
  int devices = 1;
  uint64_t device_bytes = uint64_t{1} << 30;
  // Of page-locked host memory, in all.
  uint64_t pinned_bytes = uint64_t{1} << 30;
  // 1000 * major + 10 * minor; 0 is a machine without a driver.
  int driver_version = 13000;
  int runtime_version = 13000;
  int compute_major = 9;
  // How long each copy and kernel takes at least.
  absl::Duration latency = absl::ZeroDuration();
};

// Thread-safe.
class FakeCudaRuntime final : public CudaRuntime {
 public:
  // The error that the `index`-th call (from 0, since the rule was set) of this name ("Malloc", as in runtime.h) is to
  // have; 0 lets it through. "CopyToDevice!", "CopyToHost!", "CopyOnDevice!", "Cast!" and "DigestSegments!" are asked
  // when the work's turn on its stream comes: an error there is one of the device, and shows in later calls as CUDA's
  // do.
  using Rule = std::function<CudaError(absl::string_view call, uint64_t index)>;

  explicit FakeCudaRuntime(FakeCudaOptions options = {});
  ~FakeCudaRuntime() override;

  void SetRule(Rule rule) ABSL_LOCKS_EXCLUDED(mutex_);
  // The names of all calls since the rule was set, and how often they came.
  std::map<std::string, uint64_t> calls() const ABSL_LOCKS_EXCLUDED(mutex_);
  // What was done that CUDA forbids, or only does slowly; in words.
  std::vector<std::string> misuse() const ABSL_LOCKS_EXCLUDED(mutex_);
  // What was allocated, created or opened and is still there.
  uint64_t live() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t live_device_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);
  // How many handles of other processes are open.
  uint64_t open_handles() const ABSL_LOCKS_EXCLUDED(mutex_);
  // From now on streams stop before their next work, or go on.
  void HoldStreams(bool held) ABSL_LOCKS_EXCLUDED(mutex_);

  // An allocation of another process on this device, as its handle and its memory. It lives until this object ends.
  std::pair<CudaIpcHandle, char*> AllocateElsewhere(int device, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // The memory that another process gets which opens this handle; null if it is not one of an allocation that lives.
  const char* SeenElsewhere(absl::string_view handle) const ABSL_LOCKS_EXCLUDED(mutex_);
  // That process dies: its handles open no more.
  void EndOtherProcess() ABSL_LOCKS_EXCLUDED(mutex_);

  CudaError DriverGetVersion(int* version) override;
  CudaError RuntimeGetVersion(int* version) override;
  CudaError GetDeviceCount(int* count) override;
  CudaError GetDeviceInfo(int device, CudaDeviceInfo* info) override;
  CudaError SetDevice(int device) override;
  CudaError MemGetInfo(uint64_t* free_bytes, uint64_t* total_bytes) override;
  CudaError Malloc(uint64_t bytes, char** memory) override;
  CudaError Free(char* memory) override;
  CudaError HostAlloc(uint64_t bytes, char** memory) override;
  CudaError FreeHost(char* memory) override;
  CudaError StreamCreate(CudaStreamHandle* stream) override;
  CudaError StreamDestroy(CudaStreamHandle stream) override;
  CudaError StreamSynchronize(CudaStreamHandle stream) override;
  CudaError EventCreate(CudaEventHandle* event) override;
  CudaError EventDestroy(CudaEventHandle event) override;
  CudaError EventRecord(CudaEventHandle event, CudaStreamHandle stream) override;
  CudaError EventQuery(CudaEventHandle event) override;
  CudaError CopyToDevice(char* device_memory, const char* host_memory, uint64_t bytes,
                         CudaStreamHandle stream) override;
  CudaError CopyToHost(char* host_memory, const char* device_memory, uint64_t bytes, CudaStreamHandle stream) override;
  CudaError CopyOnDevice(char* destination, const char* source, uint64_t bytes, CudaStreamHandle stream) override;
  CudaError IpcGetMemHandle(CudaIpcHandle* handle, char* memory) override;
  CudaError IpcOpenMemHandle(const CudaIpcHandle& handle, char** memory) override;
  CudaError IpcCloseMemHandle(char* memory) override;
  CudaError PointerDevice(const char* memory, int* device) override;
  CudaError GetAddressRange(char* memory, char** base, uint64_t* bytes) override;
  void ClearLastError() override {}
  const char* ErrorName(CudaError error) override;
  const char* ErrorText(CudaError error) override;
  CudaError Cast(FloatCast cast, const char* source, char* destination, uint64_t elements,
                 CudaStreamHandle stream) override;
  CudaError DigestSegments(const char* memory, uint64_t bytes, uint32_t* remainders, CudaStreamHandle stream) override;

 private:
  using Stream = FakeCudaStream;
  enum class Kind { kDevice, kPinned, kElsewhere };
  struct Allocation {
    Kind kind;
    int device;
    uint64_t bytes;
    std::unique_ptr<char[]> memory;
    // kElsewhere: how often it is open here.
    int opened = 0;
  };
  using Allocations = std::map<char*, Allocation>;

  // The rule's error for this call, counted; or the sticky error.
  CudaError Begin(absl::string_view call) ABSL_LOCKS_EXCLUDED(mutex_);
  CudaError Decide(absl::string_view call) ABSL_LOCKS_EXCLUDED(mutex_);
  CudaError Misuse(std::string what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  CudaError Allocate(Kind kind, uint64_t bytes, uint64_t limit, char** memory) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  CudaError Release(Kind kind, char* memory) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // As freeing does in CUDA: whatever still uses the memory comes first.
  void SynchronizeAll() ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t Used(Kind kind, int device) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The allocation that holds these bytes, or null.
  const Allocation* Holding(const char* memory, uint64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OnDevice(const char* memory, uint64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Stream* FindStream(CudaStreamHandle stream) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Queues `work`, which is asked for as `call` + "!" when its turn comes.
  CudaError Queue(CudaStreamHandle stream, std::string call, std::function<void()> work) ABSL_LOCKS_EXCLUDED(mutex_);
  // On a stream's thread.
  void Run(const std::string& call, const std::function<void()>& work) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Running() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !held_; }

  const FakeCudaOptions options_;
  mutable absl::Mutex mutex_;
  Rule rule_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> calls_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> misuse_ ABSL_GUARDED_BY(mutex_);
  Allocations allocations_ ABSL_GUARDED_BY(mutex_);
  std::map<CudaStreamHandle, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  // True once the stream has come to the last record.
  std::map<CudaEventHandle, std::shared_ptr<bool>> events_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_handle_ ABSL_GUARDED_BY(mutex_) = 1;
  CudaError sticky_ ABSL_GUARDED_BY(mutex_) = kCudaSuccess;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool other_process_ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CUDA_FAKE_RUNTIME_H_
