#include "server/update.h"

#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

// How many missing ranges an error message names.
constexpr size_t kRangesNamed = 3;

absl::Status MissingStatus(const UpdateIdentity& identity, const SafetensorsLayout& layout,
                           const RangeTracker& ranges) {
  const std::vector<RangeTracker::TensorMissing> missing = ranges.Missing();
  std::string text = absl::StrCat("version ", identity.version, " of model '", identity.model,
                                  "' is not complete: ", ranges.missing_bytes(), " of ", ranges.total_bytes(),
                                  " bytes in ", missing.size(), " tensors are missing (");
  for (size_t i = 0; i < missing.size() && i < kRangesNamed; ++i) {
    const ByteRange& range = missing[i].ranges.front();
    absl::StrAppend(&text, i == 0 ? "" : ", ", "'", Printable(layout.tensors[missing[i].tensor].spec.name), "' [",
                    range.begin, ", ", range.end, ")");
  }
  absl::StrAppend(&text, missing.size() > kRangesNamed ? ", ...)" : ")",
                  "; BeginUpdate again lists them all, push them and commit again");
  return absl::FailedPreconditionError(text);
}

}  // namespace

Update::Update(UpdateIdentity identity, std::shared_ptr<const SafetensorsLayout> layout, uint32_t manifest_crc32c,
               uint64_t bucket_limit_bytes, UpdateArena arena)
    : identity_(std::move(identity)),
      layout_(std::move(layout)),
      manifest_crc32c_(manifest_crc32c),
      bucket_limit_bytes_(bucket_limit_bytes),
      begin_time_(absl::Now()),
      began_(MonotonicNow()),
      arena_(std::move(arena)),
      may_write_(arena_.before_first_byte == nullptr),
      ranges_(layout_->tensors),
      last_activity_nanos_(absl::ToInt64Nanoseconds(began_)) {}

Update::~Update() = default;

absl::optional<uint32_t> Update::FindTensor(absl::string_view name) const { return FindInLayout(*layout_, name); }

absl::optional<uint32_t> Update::FindTensor(absl::string_view name, uint32_t probable) const {
  if (probable < layout_->tensors.size() && layout_->tensors[probable].spec.name == name) return probable;
  return FindTensor(name);
}

UpdateState Update::state() const {
  absl::MutexLock lock(&mutex_);
  return state_;
}

absl::Status Update::ReceivingStatus() const {
  if (receiving_.load(std::memory_order_acquire)) return absl::OkStatus();
  return EndedUpdateStatus(Record());
}

absl::Status Update::AskToWrite() {
  absl::Status may = arena_.before_first_byte(*this);
  if (may.ok()) may_write_.store(true, std::memory_order_release);
  return may;
}

bool Update::MoveTo(UpdateState state) {
  if (!IsLegalTransition(state_, state)) return false;
  state_ = state;
  receiving_.store(state == UpdateState::kReceiving, std::memory_order_release);
  if (IsFinal(state)) end_time_ = absl::Now();
  return true;
}

absl::Status Update::StartCommit() {
  absl::MutexLock lock(&mutex_);
  if (state_ == UpdateState::kReceiving && ranges_.missing_bytes() > 0)
    return MissingStatus(identity_, *layout_, ranges_);
  if (!MoveTo(UpdateState::kCommitting)) {
    return absl::FailedPreconditionError(absl::StrCat("update ", identity_.id, " of model '", identity_.model, "' is ",
                                                      UpdateStateName(state_), " and cannot be committed",
                                                      reason_.empty() ? "" : ": ", reason_));
  }
  return absl::OkStatus();
}

void Update::FinishCommit() {
  absl::MutexLock lock(&mutex_);
  const bool legal = MoveTo(UpdateState::kCommitted);
  assert(legal);
  static_cast<void>(legal);
}

bool Update::Abort(absl::string_view reason) {
  absl::MutexLock lock(&mutex_);
  if (!MoveTo(UpdateState::kAborted)) return false;
  reason_ = std::string(reason);
  return true;
}

absl::optional<TraceContext> Update::trace() const {
  absl::MutexLock lock(&mutex_);
  return trace_;
}

void Update::SetTrace(TraceContext trace) {
  absl::MutexLock lock(&mutex_);
  trace_ = std::move(trace);
}

uint64_t Update::AddStream(CutStream cut) {
  absl::MutexLock lock(&mutex_);
  const uint64_t token = next_stream_token_++;
  streams_.emplace(token, std::move(cut));
  return token;
}

void Update::RemoveStream(uint64_t token) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(token);
  if (streams_.empty()) left_.SignalAll();
}

void Update::CutStreams(absl::Duration patience) {
  absl::Status reason = ReceivingStatus();
  if (reason.ok()) reason = absl::CancelledError(absl::StrCat("the stream to update ", identity_.id, " was cut"));
  const auto left = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return streams_.empty(); };
  absl::MutexLock lock(&mutex_);
  // Under the lock: a stream that leaves meanwhile must wait, since its context dies with it. Cutting only flags the
  // call.
  for (const auto& stream : streams_) stream.second(reason);
  left_.AwaitFor(mutex_, patience, left);
}

UpdateRecord Update::Record() const {
  UpdateRecord record;
  record.identity = identity_;
  record.mode = arena_.mode;
  record.total_bytes = ranges_.total_bytes();
  record.landed_bytes = ranges_.landed_bytes();
  record.begin_time = begin_time_;
  record.manifest_crc32c = manifest_crc32c_;
  absl::MutexLock lock(&mutex_);
  record.state = state_;
  record.end_time = end_time_;
  record.reason = reason_;
  record.trace = trace_;
  record.open_streams = static_cast<uint32_t>(streams_.size());
  return record;
}

absl::Status EndedUpdateStatus(const UpdateRecord& record) {
  const std::string subject = absl::StrCat("update ", record.identity.id, " of model '", record.identity.model,
                                           "' to version ", record.identity.version);
  switch (record.state) {
    case UpdateState::kReceiving:
      return absl::OkStatus();
    case UpdateState::kCommitting:
      return absl::FailedPreconditionError(absl::StrCat(subject, " is being committed and takes no more chunks"));
    case UpdateState::kCommitted:
      return absl::FailedPreconditionError(
          absl::StrCat(subject, " is committed and takes no more chunks; begin an update to a higher version"));
    case UpdateState::kAborted:
      return absl::AbortedError(absl::StrCat(subject, " was aborted: ", record.reason));
  }
  return absl::InternalError(absl::StrCat(subject, " is in an unknown state"));
}

}  // namespace weightstream
