#include "kernels/cuda/fake_runtime.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/cast.h"
#include "kernels/cuda/cuda_error.h"
#include "kernels/cuda/fake_stream.h"
#include "kernels/digest.h"

namespace weightstream {
namespace {

// Each thread's device, as CUDA has it: 0 until it is set.
thread_local int current_device = 0;

// What a fake handle starts with, so that garbage is known as such.
constexpr absl::string_view kHandleMagic = "fake-ipc";

CudaIpcHandle MakeHandle(char* memory) {
  CudaIpcHandle handle{};
  std::copy(kHandleMagic.begin(), kHandleMagic.end(), handle.begin());
  std::memcpy(handle.data() + kHandleMagic.size(), &memory, sizeof(memory));
  return handle;
}

}  // namespace

FakeCudaRuntime::FakeCudaRuntime(FakeCudaOptions options) : options_(options) {}

FakeCudaRuntime::~FakeCudaRuntime() {
  HoldStreams(false);
  std::map<CudaStreamHandle, std::shared_ptr<Stream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    streams.swap(streams_);
  }
  // Their threads take the lock: they end outside of it.
  streams.clear();
}

// ---- What tests ask -------------------------------------------------------------------------------------------------

void FakeCudaRuntime::SetRule(Rule rule) {
  absl::MutexLock lock(&mutex_);
  rule_ = std::move(rule);
  calls_.clear();
}

std::map<std::string, uint64_t> FakeCudaRuntime::calls() const {
  absl::MutexLock lock(&mutex_);
  return calls_;
}

std::vector<std::string> FakeCudaRuntime::misuse() const {
  absl::MutexLock lock(&mutex_);
  return misuse_;
}

uint64_t FakeCudaRuntime::live() const {
  absl::MutexLock lock(&mutex_);
  uint64_t live = streams_.size() + events_.size();
  for (const auto& [start, allocation] : allocations_) {
    live += allocation.kind == Kind::kElsewhere ? allocation.opened : 1;
  }
  return live;
}

uint64_t FakeCudaRuntime::live_device_bytes() const {
  absl::MutexLock lock(&mutex_);
  uint64_t bytes = 0;
  for (int device = 0; device < options_.devices; ++device) bytes += Used(Kind::kDevice, device);
  return bytes;
}

void FakeCudaRuntime::HoldStreams(bool held) {
  absl::MutexLock lock(&mutex_);
  held_ = held;
}

std::pair<CudaIpcHandle, char*> FakeCudaRuntime::AllocateElsewhere(int device, uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  auto memory = std::make_unique<char[]>(bytes);
  char* const start = memory.get();
  allocations_[start] = {Kind::kElsewhere, device, bytes, std::move(memory)};
  return {MakeHandle(start), start};
}

uint64_t FakeCudaRuntime::open_handles() const {
  absl::MutexLock lock(&mutex_);
  uint64_t open = 0;
  for (const auto& entry : allocations_) open += static_cast<uint64_t>(entry.second.opened);
  return open;
}

const char* FakeCudaRuntime::SeenElsewhere(absl::string_view handle) const {
  if (handle.size() != std::tuple_size_v<CudaIpcHandle> || !absl::StartsWith(handle, kHandleMagic)) return nullptr;
  char* start = nullptr;
  std::memcpy(&start, handle.data() + kHandleMagic.size(), sizeof(start));
  absl::MutexLock lock(&mutex_);
  return allocations_.count(start) > 0 ? start : nullptr;
}

void FakeCudaRuntime::EndOtherProcess() {
  absl::MutexLock lock(&mutex_);
  other_process_ended_ = true;
}

// ---- What all calls have in common ----------------------------------------------------------------------------------

CudaError FakeCudaRuntime::Decide(absl::string_view call) {
  Rule rule;
  uint64_t index = 0;
  {
    absl::MutexLock lock(&mutex_);
    index = calls_[std::string(call)]++;
    rule = rule_;
  }
  return rule ? rule(call, index) : kCudaSuccess;
}

CudaError FakeCudaRuntime::Begin(absl::string_view call) {
  const CudaError error = Decide(call);
  absl::MutexLock lock(&mutex_);
  if (sticky_ == kCudaSuccess && IsStickyCudaError(error)) sticky_ = error;
  return sticky_ != kCudaSuccess ? sticky_ : error;
}

CudaError FakeCudaRuntime::Misuse(std::string what) {
  misuse_.push_back(std::move(what));
  return kCudaInvalidValue;
}

uint64_t FakeCudaRuntime::Used(Kind kind, int device) const {
  uint64_t used = 0;
  for (const auto& [start, allocation] : allocations_) {
    if (allocation.kind == kind && (kind == Kind::kPinned || allocation.device == device)) used += allocation.bytes;
  }
  return used;
}

const FakeCudaRuntime::Allocation* FakeCudaRuntime::Holding(const char* memory, uint64_t bytes) const {
  auto after = allocations_.upper_bound(const_cast<char*>(memory));
  if (after == allocations_.begin()) return nullptr;
  const auto& [start, allocation] = *--after;
  const auto offset = static_cast<uint64_t>(memory - start);
  return offset <= allocation.bytes && bytes <= allocation.bytes - offset ? &allocation : nullptr;
}

bool FakeCudaRuntime::OnDevice(const char* memory, uint64_t bytes) const {
  const Allocation* const allocation = Holding(memory, bytes);
  return allocation != nullptr && (allocation->kind == Kind::kDevice || allocation->opened > 0);
}

FakeCudaRuntime::Stream* FakeCudaRuntime::FindStream(CudaStreamHandle stream) const {
  const auto found = streams_.find(stream);
  return found == streams_.end() ? nullptr : found->second.get();
}

// ---- Devices and memory ---------------------------------------------------------------------------------------------

CudaError FakeCudaRuntime::DriverGetVersion(int* version) {
  *version = options_.driver_version;
  return Begin("DriverGetVersion");
}

CudaError FakeCudaRuntime::RuntimeGetVersion(int* version) {
  *version = options_.runtime_version;
  return Begin("RuntimeGetVersion");
}

CudaError FakeCudaRuntime::GetDeviceCount(int* count) {
  if (const CudaError error = Begin("GetDeviceCount"); error != kCudaSuccess) return error;
  *count = options_.devices;
  return options_.devices == 0 ? kCudaNoDevice : kCudaSuccess;
}

CudaError FakeCudaRuntime::GetDeviceInfo(int device, CudaDeviceInfo* info) {
  if (const CudaError error = Begin("GetDeviceInfo"); error != kCudaSuccess) return error;
  if (device < 0 || device >= options_.devices) return kCudaInvalidDevice;
  const std::string name = absl::StrCat("Fake GPU ", device);
  std::copy(name.begin(), name.end(), info->name.begin());
  info->uuid.fill(static_cast<unsigned char>(0xA0 + device));
  info->compute_major = options_.compute_major;
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::SetDevice(int device) {
  if (const CudaError error = Begin("SetDevice"); error != kCudaSuccess) return error;
  if (device < 0 || device >= options_.devices) return kCudaInvalidDevice;
  current_device = device;
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::MemGetInfo(uint64_t* free_bytes, uint64_t* total_bytes) {
  if (const CudaError error = Begin("MemGetInfo"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  *total_bytes = options_.device_bytes;
  *free_bytes = options_.device_bytes - Used(Kind::kDevice, current_device);
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::Allocate(Kind kind, uint64_t bytes, uint64_t limit, char** memory) {
  const uint64_t used = Used(kind, current_device);
  if (bytes > limit - used) return kCudaMemoryAllocation;
  // Not at a multiple of anything beyond what is promised, so that nobody relies on more.
  std::unique_ptr<char[]> block(new (std::nothrow) char[bytes]);
  if (block == nullptr) return kCudaMemoryAllocation;
  *memory = block.get();
  allocations_[*memory] = {kind, current_device, bytes, std::move(block)};
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::Release(Kind kind, char* memory) {
  const auto found = allocations_.find(memory);
  if (found == allocations_.end() || found->second.kind != kind) return Misuse("free of what is not allocated");
  allocations_.erase(found);
  return kCudaSuccess;
}

void FakeCudaRuntime::SynchronizeAll() {
  std::vector<std::shared_ptr<Stream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [handle, stream] : streams_) streams.push_back(stream);
  }
  for (const std::shared_ptr<Stream>& stream : streams) stream->Synchronize();
}

CudaError FakeCudaRuntime::Malloc(uint64_t bytes, char** memory) {
  if (const CudaError error = Begin("Malloc"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  return Allocate(Kind::kDevice, bytes, options_.device_bytes, memory);
}

CudaError FakeCudaRuntime::Free(char* memory) {
  const CudaError error = Begin("Free");
  SynchronizeAll();
  absl::MutexLock lock(&mutex_);
  // Freed all the same: what is checked is that it was asked for, once.
  const CudaError released = Release(Kind::kDevice, memory);
  return error != kCudaSuccess ? error : released;
}

CudaError FakeCudaRuntime::HostAlloc(uint64_t bytes, char** memory) {
  if (const CudaError error = Begin("HostAlloc"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  return Allocate(Kind::kPinned, bytes, options_.pinned_bytes, memory);
}

CudaError FakeCudaRuntime::FreeHost(char* memory) {
  const CudaError error = Begin("FreeHost");
  SynchronizeAll();
  absl::MutexLock lock(&mutex_);
  const CudaError released = Release(Kind::kPinned, memory);
  return error != kCudaSuccess ? error : released;
}

// ---- Streams and events ---------------------------------------------------------------------------------------------

CudaError FakeCudaRuntime::StreamCreate(CudaStreamHandle* stream) {
  if (const CudaError error = Begin("StreamCreate"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  *stream = reinterpret_cast<CudaStreamHandle>(next_handle_++);
  streams_[*stream] = std::make_shared<Stream>();
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::StreamDestroy(CudaStreamHandle stream) {
  const CudaError error = Begin("StreamDestroy");
  std::shared_ptr<Stream> ended;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = streams_.find(stream);
    if (found == streams_.end()) return Misuse("destruction of what is no stream");
    ended = std::move(found->second);
    streams_.erase(found);
  }
  return error;
}

CudaError FakeCudaRuntime::StreamSynchronize(CudaStreamHandle stream) {
  if (const CudaError error = Begin("StreamSynchronize"); error != kCudaSuccess) return error;
  std::shared_ptr<Stream> waited;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = streams_.find(stream);
    if (found == streams_.end()) return Misuse("waiting for what is no stream");
    waited = found->second;
  }
  waited->Synchronize();
  absl::MutexLock lock(&mutex_);
  return sticky_;
}

CudaError FakeCudaRuntime::EventCreate(CudaEventHandle* event) {
  if (const CudaError error = Begin("EventCreate"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  *event = reinterpret_cast<CudaEventHandle>(next_handle_++);
  // As in CUDA: what was never recorded is done.
  events_[*event] = std::make_shared<bool>(true);
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::EventDestroy(CudaEventHandle event) {
  const CudaError error = Begin("EventDestroy");
  absl::MutexLock lock(&mutex_);
  if (events_.erase(event) == 0) return Misuse("destruction of what is no event");
  return error;
}

CudaError FakeCudaRuntime::EventRecord(CudaEventHandle event, CudaStreamHandle stream) {
  if (const CudaError error = Begin("EventRecord"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  const auto found = events_.find(event);
  Stream* const on = FindStream(stream);
  if (found == events_.end() || on == nullptr) return Misuse("record of what is no event, or on no stream");
  auto reached = std::make_shared<bool>(false);
  found->second = reached;
  on->Add([this, reached] {
    absl::MutexLock done(&mutex_);
    *reached = true;
  });
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::EventQuery(CudaEventHandle event) {
  if (const CudaError error = Begin("EventQuery"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  const auto found = events_.find(event);
  if (found == events_.end()) return Misuse("query of what is no event");
  return *found->second ? kCudaSuccess : kCudaNotReady;
}

// ---- Work on streams ------------------------------------------------------------------------------------------------

CudaError FakeCudaRuntime::Queue(CudaStreamHandle stream, std::string call, std::function<void()> work) {
  absl::MutexLock lock(&mutex_);
  Stream* const on = FindStream(stream);
  if (on == nullptr) return Misuse(absl::StrCat(call, " on no stream"));
  on->Add([this, call = call + "!", work = std::move(work)] { Run(call, work); });
  return kCudaSuccess;
}

void FakeCudaRuntime::Run(const std::string& call, const std::function<void()>& work) {
  // The time that the work takes.
  absl::SleepFor(options_.latency);
  const CudaError error = Decide(call);
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &FakeCudaRuntime::Running));
    if (sticky_ == kCudaSuccess) sticky_ = error;
    if (sticky_ != kCudaSuccess) return;
  }
  work();
}

CudaError FakeCudaRuntime::CopyToDevice(char* device_memory, const char* host_memory, uint64_t bytes,
                                        CudaStreamHandle stream) {
  if (const CudaError error = Begin("CopyToDevice"); error != kCudaSuccess) return error;
  {
    absl::MutexLock lock(&mutex_);
    if (!OnDevice(device_memory, bytes)) return Misuse("copy to what is not device memory");
    const Allocation* const source = Holding(host_memory, bytes);
    if (source == nullptr || source->kind != Kind::kPinned) return Misuse("copy from what is not page-locked");
  }
  return Queue(stream, "CopyToDevice", [=] { std::memcpy(device_memory, host_memory, bytes); });
}

CudaError FakeCudaRuntime::CopyToHost(char* host_memory, const char* device_memory, uint64_t bytes,
                                      CudaStreamHandle stream) {
  if (const CudaError error = Begin("CopyToHost"); error != kCudaSuccess) return error;
  {
    absl::MutexLock lock(&mutex_);
    if (!OnDevice(device_memory, bytes)) return Misuse("copy from what is not device memory");
  }
  return Queue(stream, "CopyToHost", [=] { std::memcpy(host_memory, device_memory, bytes); });
}

CudaError FakeCudaRuntime::CopyOnDevice(char* destination, const char* source, uint64_t bytes,
                                        CudaStreamHandle stream) {
  if (const CudaError error = Begin("CopyOnDevice"); error != kCudaSuccess) return error;
  {
    absl::MutexLock lock(&mutex_);
    if (!OnDevice(destination, bytes) || !OnDevice(source, bytes))
      return Misuse("copy within what is not device memory");
  }
  return Queue(stream, "CopyOnDevice", [=] { std::memcpy(destination, source, bytes); });
}

CudaError FakeCudaRuntime::Cast(FloatCast cast, const char* source, char* destination, uint64_t elements,
                                CudaStreamHandle stream) {
  if (const CudaError error = Begin("Cast"); error != kCudaSuccess) return error;
  {
    absl::MutexLock lock(&mutex_);
    if (!OnDevice(source, elements * CastSourceBytes(cast)) ||
        !OnDevice(destination, elements * CastDestinationBytes(cast))) {
      return Misuse("cast of what is not device memory");
    }
  }
  return Queue(stream, "Cast", [=] { CastElements(cast, source, destination, elements); });
}

CudaError FakeCudaRuntime::DigestSegments(const char* memory, uint64_t bytes, uint32_t* remainders,
                                          CudaStreamHandle stream) {
  if (const CudaError error = Begin("DigestSegments"); error != kCudaSuccess) return error;
  {
    absl::MutexLock lock(&mutex_);
    if (!OnDevice(memory, bytes) ||
        !OnDevice(reinterpret_cast<char*>(remainders), DigestSegmentCount(bytes) * sizeof(uint32_t))) {
      return Misuse("digest of what is not device memory");
    }
  }
  return Queue(stream, "DigestSegments", [=] {
    for (uint64_t segment = 0, at = 0; at < bytes; ++segment, at += kDigestSegmentBytes) {
      remainders[segment] = SegmentRemainder(absl::string_view(memory + at, std::min(kDigestSegmentBytes, bytes - at)));
    }
  });
}

// ---- Other processes ------------------------------------------------------------------------------------------------

CudaError FakeCudaRuntime::IpcGetMemHandle(CudaIpcHandle* handle, char* memory) {
  if (const CudaError error = Begin("IpcGetMemHandle"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  if (allocations_.find(memory) == allocations_.end()) return Misuse("a handle of what is not allocated");
  *handle = MakeHandle(memory);
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::IpcOpenMemHandle(const CudaIpcHandle& handle, char** memory) {
  if (const CudaError error = Begin("IpcOpenMemHandle"); error != kCudaSuccess) return error;
  if (absl::string_view(handle.data(), kHandleMagic.size()) != kHandleMagic) return kCudaInvalidValue;
  char* start = nullptr;
  std::memcpy(&start, handle.data() + kHandleMagic.size(), sizeof(start));
  absl::MutexLock lock(&mutex_);
  const auto found = allocations_.find(start);
  if (found == allocations_.end()) return kCudaInvalidResourceHandle;
  // A process cannot open its own.
  if (found->second.kind != Kind::kElsewhere) return kCudaDeviceUninitialized;
  if (other_process_ended_) return kCudaMapBufferObjectFailed;
  ++found->second.opened;
  *memory = start;
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::IpcCloseMemHandle(char* memory) {
  const CudaError error = Begin("IpcCloseMemHandle");
  SynchronizeAll();
  absl::MutexLock lock(&mutex_);
  const auto found = allocations_.find(memory);
  if (found == allocations_.end() || found->second.opened == 0) return Misuse("closing of what is not open");
  --found->second.opened;
  return error;
}

CudaError FakeCudaRuntime::PointerDevice(const char* memory, int* device) {
  if (const CudaError error = Begin("PointerDevice"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  if (!OnDevice(memory, 0)) return Misuse("the device of what is not device memory");
  *device = (--allocations_.upper_bound(const_cast<char*>(memory)))->second.device;
  return kCudaSuccess;
}

CudaError FakeCudaRuntime::GetAddressRange(char* memory, char** base, uint64_t* bytes) {
  if (const CudaError error = Begin("GetAddressRange"); error != kCudaSuccess) return error;
  absl::MutexLock lock(&mutex_);
  if (!OnDevice(memory, 0)) return Misuse("the range of what is not device memory");
  const auto found = --allocations_.upper_bound(memory);
  *base = found->first;
  *bytes = found->second.bytes;
  return kCudaSuccess;
}

const char* FakeCudaRuntime::ErrorName(CudaError error) {
  switch (error) {
    case kCudaInvalidValue:
      return "cudaErrorInvalidValue";
    case kCudaMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case kCudaIllegalAddress:
      return "cudaErrorIllegalAddress";
    default:
      return "cudaErrorOfTheFake";
  }
}

const char* FakeCudaRuntime::ErrorText(CudaError error) {
  return error == kCudaIllegalAddress ? "an illegal memory access was encountered" : "an error was injected";
}

}  // namespace weightstream
