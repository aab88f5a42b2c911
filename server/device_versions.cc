#include "server/device_versions.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/registered_targets.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// A stream that was cut leaves, and a copy that was started completes, within milliseconds.
constexpr absl::Duration kLeavingPatience = absl::Seconds(2);
constexpr absl::Duration kLeavingPoll = absl::Milliseconds(5);

absl::Status NotHeld(const std::string& model, uint64_t version) {
  return absl::NotFoundError(absl::StrCat("model '", model, "' has no version ", version));
}

}  // namespace

// One version. Lives until its last reader lets go, and its memory with it.
class DeviceVersions::Held final : public ReadableVersion {
 public:
  Held(Device& device, const Update& update)
      : device_(device),
        version_(update.identity().version),
        subject_(absl::StrCat("version ", update.identity().version, " of model '", update.identity().model, "'")),
        registered_(update.placement() != nullptr),
        owner_(!registered_ ? "" : update.placement()->registered().owner()),
        layout_(update.shared_layout()),
        memory_{update.shared_target(), update.placement()} {}

  uint64_t version() const { return version_; }
  // Null once it was given back.
  std::shared_ptr<Target> target() const ABSL_LOCKS_EXCLUDED(mutex_) { return InUse().target; }
  // True if its memory is another process's.
  bool registered() const { return registered_; }

  // Before the first byte is written over it.
  void SetOverwritten() { overwritten_.store(true, std::memory_order_seq_cst); }
  // Before another process may write to its memory as it likes: from now on only reads that are under way hold it,
  // however long their callers hold this.
  void GiveBack() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    memory_ = {};
  }

  const SafetensorsLayout& layout() const override { return *layout_; }

  absl::optional<absl::string_view> InPlace(ByteRange range) const override { return absl::nullopt; }

  absl::Status Read(ByteRange range, char* destination) const override {
    const Memory memory = InUse();
    if (memory.target == nullptr) return GivenBack();
    absl::Status read = memory.placement == nullptr ? device_.ReadTarget(*memory.target, range, destination)
                                                    : memory.placement->Read(*layout_, InTensor(range), destination);
    return read.ok() ? Whole() : read;
  }

  // Of one that was given back it says nothing that matters: its digest says that.
  HeldTensor HowHeld(uint32_t tensor) const override {
    const Memory memory = InUse();
    return memory.placement == nullptr ? ReadableVersion::HowHeld(tensor) : memory.placement->HowHeld(*layout_, tensor);
  }

  absl::Status CheckReadable(uint32_t tensor) const override {
    const Memory memory = InUse();
    if (memory.target == nullptr) return GivenBack();
    return memory.placement == nullptr ? absl::OkStatus() : memory.placement->CheckReadable(*layout_, tensor);
  }

  absl::StatusOr<std::vector<uint32_t>> Digest(uint32_t tensor, ByteRange held, uint64_t block_bytes) const override {
    const uint64_t begin = layout_->tensors[tensor].range.begin;
    const Memory memory = InUse();
    if (memory.target == nullptr) return GivenBack();
    absl::StatusOr<std::vector<uint32_t>> digests =
        memory.placement == nullptr
            ? device_.DigestTarget(*memory.target, {begin + held.begin, begin + held.end}, block_bytes)
            : memory.placement->Digest(tensor, held, block_bytes);
    if (!digests.ok()) return digests.status();
    if (absl::Status whole = Whole(); !whole.ok()) return whole;
    return digests;
  }

 private:
  struct Memory {
    std::shared_ptr<Target> target;
    // Null where the target is one piece in the layout's order.
    std::shared_ptr<const BoundTargets> placement;
  };

  // The memory, which stays as long as the result; null if it was given back.
  Memory InUse() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return memory_;
  }

  absl::Status GivenBack() const {
    return absl::FailedPreconditionError(absl::StrCat(subject_, " lay in memory that the inference server ", owner_,
                                                      " registered, and is held no more; GetModel tells what can be "
                                                      "read"));
  }

  // The tensor in which the range lies, and where. Readers ask for parts of one tensor at a time.
  TensorRange InTensor(ByteRange range) const {
    const auto behind =
        std::upper_bound(layout_->tensors.begin(), layout_->tensors.end(), range.begin,
                         [](uint64_t at, const PlacedTensor& tensor) { return at < tensor.range.begin; });
    const PlacedTensor& tensor = *std::prev(behind);
    return {static_cast<uint32_t>(std::prev(behind) - layout_->tensors.begin()),
            {range.begin - tensor.range.begin, range.end - tensor.range.begin}};
  }

  // Asked after the reading: what was read before a mark was set, was read before anything was overwritten.
  absl::Status Whole() const {
    if (InUse().target == nullptr) return GivenBack();
    if (!overwritten_.load(std::memory_order_seq_cst)) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(subject_, " is being overwritten in place by the next one on ",
                                                      device_.name(), "; GetModel tells what can be read"));
  }

  Device& device_;
  const uint64_t version_;
  const std::string subject_;
  const bool registered_;
  // Who registered its memory, if anybody did.
  const std::string owner_;
  // Shared with updates of the same manifest.
  const std::shared_ptr<const SafetensorsLayout> layout_;
  std::atomic<bool> overwritten_{false};
  mutable absl::Mutex mutex_;
  Memory memory_ ABSL_GUARDED_BY(mutex_);
};

std::shared_ptr<DeviceVersions::Held> DeviceVersions::Find(const std::string& model, uint64_t version) const {
  absl::MutexLock lock(&mutex_);
  const auto found = held_.find({model, version});
  return found == held_.end() ? nullptr : found->second;
}

std::shared_ptr<DeviceVersions::Held> DeviceVersions::Take(const std::string& model, uint64_t version) {
  absl::MutexLock lock(&mutex_);
  const auto found = held_.find({model, version});
  if (found == held_.end()) return nullptr;
  std::shared_ptr<Held> taken = std::move(found->second);
  held_.erase(found);
  return taken;
}

DeviceVersions::DeviceVersions(Device& device) : device_(device), thread_([this] { FreeWhatLeaves(); }) {}

void DeviceVersions::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void DeviceVersions::Leaves(std::shared_ptr<Target> target) {
  absl::MutexLock lock(&mutex_);
  leaving_.push_back(std::move(target));
  ++leaving_count_;
}

std::shared_ptr<Target> DeviceVersions::TakeUnused() {
  const auto unused = std::find_if(leaving_.begin(), leaving_.end(),
                                   [](const std::shared_ptr<Target>& target) { return target.use_count() == 1; });
  if (unused == leaving_.end()) return nullptr;
  std::shared_ptr<Target> taken = std::move(*unused);
  leaving_.erase(unused);
  return taken;
}

void DeviceVersions::FreeWhatLeaves() {
  const auto work_or_end = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !leaving_.empty() || stopping_; };
  for (;;) {
    std::shared_ptr<Target> unused;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&work_or_end));
      unused = TakeUnused();
      // At the end nobody is left who waits for a device, or waits to be freed of one.
      if (unused == nullptr && stopping_) return;
    }
    if (unused == nullptr) {
      absl::SleepFor(kLeavingPoll);
      continue;
    }
    unused.reset();
    absl::MutexLock lock(&mutex_);
    --leaving_count_;
    freed_.SignalAll();
  }
}

bool DeviceVersions::AnyLeaving() const {
  absl::MutexLock lock(&mutex_);
  return leaving_count_ > 0;
}

void DeviceVersions::AwaitLeaving() {
  const auto gone = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return leaving_count_ == 0; };
  absl::MutexLock lock(&mutex_);
  freed_.AwaitFor(mutex_, kLeavingPatience, gone);
}

absl::StatusOr<std::shared_ptr<Target>> DeviceVersions::Provide(const ArenaRequest& request) {
  if (absl::Status healthy = device_.Health(); !healthy.ok()) return healthy;
  const TargetSpec spec{.bytes = request.layout->data_bytes};
  // Asked before: what is leaving may have gone when the device has just said that it is full.
  const bool leaving = AnyLeaving();
  absl::StatusOr<std::unique_ptr<Target>> target = device_.CreateTarget(spec);
  if (absl::IsResourceExhausted(target.status()) && leaving) {
    AwaitLeaving();
    target = device_.CreateTarget(spec);
  }
  if (target.ok()) return std::shared_ptr<Target>(*std::move(target));
  return absl::Status(target.status().code(), absl::StrCat(request.subject, ": ", target.status().message()));
}

uint64_t DeviceVersions::LackingBytes(const ArenaRequest& request) const {
  const uint64_t needed = device_.TargetFootprint(request.layout->data_bytes);
  const uint64_t free = device_.FreeBytes().value_or(needed);
  return needed - std::min(needed, free);
}

absl::StatusOr<DeviceVersions::Room> DeviceVersions::TakeForRoom(const ArenaRequest& request,
                                                                 const std::vector<uint64_t>& removable) {
  const absl::StatusOr<uint64_t> free = device_.FreeBytes();
  if (!free.ok()) return free.status();
  Room room{.needed = device_.TargetFootprint(request.layout->data_bytes), .free = *free};
  uint64_t would_be_free = room.free;
  absl::MutexLock lock(&mutex_);
  std::vector<decltype(held_)::iterator> going;
  for (const uint64_t version : removable) {
    const auto found = held_.find({request.model, version});
    if (found == held_.end() || found->second->registered()) continue;
    const uint64_t bytes = device_.TargetFootprint(found->second->target()->bytes());
    room.removable += bytes;
    // Readers take theirs under this lock: one that has none now gets none.
    if (found->second.use_count() > 1 || would_be_free >= room.needed) continue;
    would_be_free += bytes;
    going.push_back(found);
  }
  room.enough = would_be_free >= room.needed;
  if (!room.enough) return room;
  for (const auto& one : going) {
    room.taken.push_back(std::move(one->second));
    held_.erase(one);
  }
  return room;
}

absl::StatusOr<std::vector<uint64_t>> DeviceVersions::MakeRoom(const ArenaRequest& request,
                                                               const std::vector<uint64_t>& removable) {
  const absl::Duration deadline = MonotonicNow() + kLeavingPatience;
  absl::StatusOr<Room> room = TakeForRoom(request, removable);
  // Enough but for its readers: a few chunks more, mostly.
  while (room.ok() && !room->enough && room->free + room->removable >= room->needed && MonotonicNow() < deadline) {
    absl::SleepFor(kLeavingPoll);
    room = TakeForRoom(request, removable);
  }
  if (!room.ok()) return room.status();
  if (!room->enough) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "it takes ", room->needed, " bytes of ", device_.name(), ", where ", room->free,
        " are free, and the older versions that could make room hold ", room->removable,
        room->free + room->removable < room->needed ? "" : ", some of which are being read", "; none was removed"));
  }
  std::vector<uint64_t> removed;
  for (std::shared_ptr<Held>& held : room->taken) {
    removed.push_back(held->version());
    Leaves(held->target());
    held.reset();
  }
  return removed;
}

absl::StatusOr<std::shared_ptr<Target>> DeviceVersions::ProvideInPlace(const ArenaRequest& request, uint64_t over) {
  const std::shared_ptr<Held> held = Find(request.model, over);
  std::shared_ptr<Target> target = held == nullptr ? nullptr : held->target();
  if (target == nullptr) return NotHeld(request.model, over);
  if (target->bytes() < request.layout->data_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("nor can it be written over version ", over, ", whose memory has ", target->bytes(), " bytes"));
  }
  return target;
}

void DeviceVersions::Overwritten(const std::string& model, uint64_t version) {
  const std::shared_ptr<Held> held = Take(model, version);
  assert(held != nullptr);
  held->SetOverwritten();
}

absl::Status DeviceVersions::Discard(const Update& update) {
  bool held = false;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& entry : held_) held = held || entry.second->target() == update.shared_target();
  }
  // Written in place, but for its first byte: the version that was to be overwritten stays.
  if (!held) Leaves(update.shared_target());
  return absl::OkStatus();
}

absl::StatusOr<VersionRecord> DeviceVersions::Publish(const Update& update) {
  if (absl::Status healthy = device_.Health(); !healthy.ok()) return healthy;
  const UpdateIdentity& identity = update.identity();
  VersionRecord record;
  record.version = identity.version;
  record.total_bytes = update.layout().data_bytes;
  record.tensors = update.layout().tensors.size();
  record.manifest_crc32c = update.manifest_crc32c();
  record.commit_time = absl::Now();
  auto held = std::make_shared<Held>(device_, update);
  absl::MutexLock lock(&mutex_);
  held_[{identity.model, identity.version}] = std::move(held);
  return record;
}

absl::Status DeviceVersions::SetCurrent(const std::string& model, uint64_t version) {
  return Find(model, version) != nullptr ? absl::OkStatus() : NotHeld(model, version);
}

absl::Status DeviceVersions::Remove(const std::string& model, uint64_t version) {
  const std::shared_ptr<Held> held = Take(model, version);
  if (held == nullptr) return NotHeld(model, version);
  Leaves(held->target());
  // Its owner keeps it no longer than it is held: who reads it must not go on, nor keep it open.
  if (held->registered()) held->GiveBack();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const ReadableVersion>> DeviceVersions::Open(const std::string& model,
                                                                            uint64_t version) const {
  std::shared_ptr<const ReadableVersion> held = Find(model, version);
  if (held == nullptr) return NotHeld(model, version);
  return held;
}

absl::StatusOr<SharedMemory> DeviceVersions::Share(const std::string& model, uint64_t version) const {
  const std::shared_ptr<Held> held = Find(model, version);
  if (held == nullptr) return NotHeld(model, version);
  if (held->registered()) {
    return absl::FailedPreconditionError(absl::StrCat("version ", version, " of model '", model,
                                                      "' lies in memory that the inference server owns, which alone "
                                                      "can export it"));
  }
  // Only registered memory is ever given back.
  return device_.Export(*held->target());
}

}  // namespace weightstream
