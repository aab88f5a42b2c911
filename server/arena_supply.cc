#include "server/arena_supply.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/log.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// What the thread touches between two looks at what is wanted: some milliseconds of work.
constexpr uint64_t kStepBytes = 16 << 20;

// `header`, or `made` with it if that is empty.
absl::string_view HeaderOf(const SafetensorsLayout& layout, absl::string_view header, std::string& made) {
  if (!header.empty()) return header;
  made = EncodeSafetensorsHeader(layout);
  return made;
}

}  // namespace

ArenaSupply::ArenaSupply(ModelStore& store, Device& device, Options options)
    : store_(store), device_(device), options_(std::move(options)) {
  if (options_.work_ahead) thread_ = std::thread([this] { Work(); });
}

ArenaSupply::~ArenaSupply() { Stop(); }

void ArenaSupply::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
  while (DropOldest("")) {
  }
}

// ---- Providing ------------------------------------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<Target>> ArenaSupply::Provide(const std::string& model, const std::string& update_id,
                                                             const std::shared_ptr<const SafetensorsLayout>& layout,
                                                             absl::string_view header, absl::string_view subject) {
  std::shared_ptr<Target> target;
  if (absl::Status taken = TakeSpare(model, update_id, layout, header, target); !taken.ok()) {
    LogWarning("spare_arena_lost", {{"model", model}, {"update", update_id}, {"error", std::string(taken.message())}});
  }
  if (target == nullptr) {
    if (absl::Status room = CheckRoom(layout->file_bytes(), subject); !room.ok()) return room;
    absl::StatusOr<std::shared_ptr<Target>> created = Create(model, update_id, *layout, header);
    if (!created.ok()) return created.status();
    target = *std::move(created);
  }
  if (options_.work_ahead && target->slow_to_prepare() && target->prepared_bytes() < target->bytes()) {
    absl::MutexLock lock(&mutex_);
    begun_.push_back({target, 0});
  }
  return target;
}

absl::Status ArenaSupply::TakeSpare(const std::string& model, const std::string& update_id,
                                    const std::shared_ptr<const SafetensorsLayout>& layout, absl::string_view header,
                                    std::shared_ptr<Target>& target) {
  Spare spare;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = std::find_if(spares_.begin(), spares_.end(), [&](const Spare& s) { return s.model == model; });
    if (found == spares_.end()) return absl::OkStatus();
    spare = std::move(*found);
    spares_.erase(found);
  }
  if (spare.target == nullptr || !spare.Fits(*layout)) {
    Discard(spare);
    return absl::OkStatus();
  }
  absl::Status adopted;
  std::string made;
  if (spare.written.lock() != layout) {
    adopted = store_.SetSpareHeader(model, spare.id, HeaderOf(*layout, header, made));
  }
  if (adopted.ok()) adopted = store_.AdoptSpare(model, spare.id, update_id);
  if (!adopted.ok()) {
    Discard(spare);
    return adopted;
  }
  target = std::move(spare.target);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Target>> ArenaSupply::Create(const std::string& model, const std::string& update_id,
                                                            const SafetensorsLayout& layout,
                                                            absl::string_view header) const {
  std::string made;
  absl::StatusOr<NewFile> created = store_.CreateIncoming(model, update_id, HeaderOf(layout, header, made));
  if (!created.ok()) return created.status();
  absl::StatusOr<std::unique_ptr<Target>> target =
      device_.CreateTarget({layout.data_bytes, created->path, layout.data_start, created->file.get()});
  if (target.ok()) return std::shared_ptr<Target>(*std::move(target));
  static_cast<void>(store_.DiscardIncoming(model, update_id));
  return target.status();
}

absl::StatusOr<uint64_t> ArenaSupply::RoomBytes() const {
  absl::StatusOr<uint64_t> free = store_.FreeBytes();
  if (!free.ok()) return free.status();
  const uint64_t promised = options_.promised_bytes ? options_.promised_bytes() : 0;
  return *free - std::min(*free, promised);
}

uint64_t ArenaSupply::LackingBytes(uint64_t file_bytes) const {
  const uint64_t room = RoomBytes().value_or(file_bytes);
  return file_bytes - std::min(file_bytes, room);
}

absl::Status ArenaSupply::CheckRoom(uint64_t file_bytes, absl::string_view subject) {
  const absl::Duration deadline = MonotonicNow() + options_.patience;
  for (;;) {
    absl::StatusOr<uint64_t> room = RoomBytes();
    if (!room.ok()) return room.status();
    if (file_bytes <= *room) return absl::OkStatus();
    const absl::StatusOr<bool> freed = AwaitJobs(deadline);
    if (!freed.ok()) return freed.status();
    if (*freed || DropOldest("")) continue;
    return absl::ResourceExhaustedError(
        absl::StrCat(subject, " needs ", file_bytes, " bytes at ", store_.data_dir(), ", where ", *room,
                     " are free and not promised to updates in flight; free space, keep fewer versions "
                     "(--keep-versions) or choose another --data-dir"));
  }
}

// ---- Giving back ----------------------------------------------------------------------------------------------------

void ArenaSupply::InBackground(std::function<void()> job) {
  {
    absl::MutexLock lock(&mutex_);
    if (options_.work_ahead && !stopping_) {
      jobs_.push_back(std::move(job));
      return;
    }
  }
  job();
}

absl::StatusOr<bool> ArenaSupply::AwaitJobs(absl::Duration deadline) {
  const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return jobs_.empty() && !job_running_; };
  absl::MutexLock lock(&mutex_);
  if (done()) return false;
  if (rested_.AwaitFor(mutex_, deadline - MonotonicNow(), done)) return true;
  return absl::UnavailableError(absl::StrCat("the versions that were removed at ", store_.data_dir(),
                                             " are not freed yet after ", absl::FormatDuration(options_.patience),
                                             "; the medium is very slow or stuck: try again later"));
}

// ---- Spares ---------------------------------------------------------------------------------------------------------

void ArenaSupply::MakeSpare(const std::string& model, const std::shared_ptr<const SafetensorsLayout>& layout,
                            const Target& last) {
  if (!options_.work_ahead || !last.slow_to_prepare() || layout->data_bytes == 0) return;
  absl::MutexLock lock(&mutex_);
  if (stopping_) return;
  for (const Spare& spare : spares_) {
    // Made for the version before this one, which did not take it: it serves the next.
    if (spare.model == model && spare.Fits(*layout)) return;
  }
  spares_.push_back({.model = model,
                     .id = absl::StrCat(next_id_++),
                     .to_write = layout,
                     .written = layout,
                     .data_start = layout->data_start,
                     .data_bytes = layout->data_bytes});
}

uint64_t ArenaSupply::SpareBytes(const std::string& model) const {
  absl::MutexLock lock(&mutex_);
  for (const Spare& spare : spares_) {
    if (spare.model == model && spare.target != nullptr) return spare.target->prepared_bytes();
  }
  return 0;
}

bool ArenaSupply::DropOldest(absl::string_view but_model) {
  Spare dropped;
  {
    absl::MutexLock lock(&mutex_);
    const auto oldest =
        std::find_if(spares_.begin(), spares_.end(), [&](const Spare& spare) { return spare.model != but_model; });
    if (oldest == spares_.end()) return false;
    dropped = std::move(*oldest);
    spares_.erase(oldest);
  }
  Discard(dropped);
  return true;
}

void ArenaSupply::Discard(const Spare& spare) {
  const absl::Status discarded = store_.DiscardSpare(spare.model, spare.id);
  if (!discarded.ok()) {
    LogWarning("cannot_discard", {{"model", spare.model}, {"error", std::string(discarded.message())}});
  }
  // Its memory is free once the last who holds it lets go: the thread, for as long as a step takes.
  if (std::this_thread::get_id() == thread_.get_id()) return;
  const auto at_rest = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !working_; };
  absl::MutexLock lock(&mutex_);
  rested_.AwaitFor(mutex_, options_.patience, at_rest);
}

// ---- The thread -----------------------------------------------------------------------------------------------------

const ArenaSupply::Spare* ArenaSupply::NextSpare() const {
  const auto next = std::find_if(spares_.rbegin(), spares_.rend(), [](const Spare& spare) { return !spare.done(); });
  return next == spares_.rend() ? nullptr : &*next;
}

std::vector<ArenaSupply::Spare>::iterator ArenaSupply::FindSpare(absl::string_view id) {
  return std::find_if(spares_.begin(), spares_.end(), [&](const Spare& spare) { return spare.id == id; });
}

bool ArenaSupply::HasWork() const { return stopping_ || !jobs_.empty() || !begun_.empty() || NextSpare() != nullptr; }

void ArenaSupply::Work() {
  // For who looks at what the process spends its time on.
  pthread_setname_np(pthread_self(), "arena_supply");
  const auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return HasWork(); };
  mutex_.Lock();
  for (;;) {
    working_ = false;
    job_running_ = false;
    rested_.SignalAll();
    mutex_.Await(absl::Condition(&has_work));
    if (stopping_ && jobs_.empty()) break;
    working_ = true;
    if (!jobs_.empty()) {
      std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      job_running_ = true;
      mutex_.Unlock();
      job();
      // What it holds goes with it: this may be what takes long.
      job = nullptr;
    } else if (!begun_.empty()) {
      Begun begun = std::move(begun_.front());
      begun_.pop_front();
      mutex_.Unlock();
      TouchAhead(std::move(begun));
    } else {
      Spare spare = *NextSpare();
      mutex_.Unlock();
      AdvanceSpare(std::move(spare));
    }
    mutex_.Lock();
  }
  mutex_.Unlock();
}

void ArenaSupply::TouchAhead(Begun begun) {
  const std::shared_ptr<Target> target = begun.target.lock();
  if (target == nullptr) return;
  const uint64_t end = std::min(begun.next + kStepBytes, target->bytes());
  // No room, or no memory: the chunk that needs it will say so.
  if (!target->Prepare({begun.next, end}).ok() || end == target->bytes()) return;
  begun.next = end;
  absl::MutexLock lock(&mutex_);
  begun_.push_back(std::move(begun));
}

void ArenaSupply::AdvanceSpare(Spare spare) {
  absl::Status status;
  if (spare.target == nullptr) {
    status = CreateSpare(spare);
  } else {
    const uint64_t end = std::min(spare.next + kStepBytes, spare.data_bytes);
    status = spare.target->Prepare({spare.next, end});
    spare.next = end;
  }
  {
    absl::MutexLock lock(&mutex_);
    const auto kept = FindSpare(spare.id);
    // Taken or dropped meanwhile. One that was dropped before it existed is ours to remove.
    const bool gone = kept == spares_.end();
    if (!gone && status.ok()) {
      // Swapped, for what it held may be the last of a large layout: to free that takes milliseconds.
      std::swap(*kept, spare);
      return;
    }
    if (!gone) spares_.erase(kept);
    if (gone && spare.next > 0) return;
  }
  Discard(spare);
  if (!status.ok()) LogInfo("no_spare_arena", {{"model", spare.model}, {"reason", std::string(status.message())}});
}

absl::Status ArenaSupply::CreateSpare(Spare& spare) {
  absl::StatusOr<uint64_t> room = RoomBytes();
  while (room.ok() && *room < spare.file_bytes() && DropOldest(spare.model)) room = RoomBytes();
  if (!room.ok()) return room.status();
  if (*room < spare.file_bytes()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a spare arena needs ", spare.file_bytes(), " bytes, where ", *room, " are free"));
  }
  absl::StatusOr<NewFile> created = store_.CreateSpare(spare.model, spare.id, EncodeSafetensorsHeader(*spare.to_write));
  if (!created.ok()) return created.status();
  absl::StatusOr<std::unique_ptr<Target>> target =
      device_.CreateTarget({spare.data_bytes, created->path, spare.data_start, created->file.get()});
  if (!target.ok()) return target.status();
  spare.target = *std::move(target);
  spare.to_write.reset();
  return absl::OkStatus();
}

}  // namespace weightstream
