#include "kernels/cuda/copy_stream.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "kernels/cast.h"

namespace weightstream {
namespace {

// A chunk of the usual size in one piece; larger ones are cast piece by piece.
constexpr uint64_t kScratchBytes = 4 << 20;

// Keeps what a device may use until the process ends. It is never freed, not even then: the device may be at it.
template <typename T>
void KeepForGood(T kept) {
  static auto& mutex = *new absl::Mutex;
  static auto& all = *new std::deque<T>;
  absl::MutexLock lock(&mutex);
  all.push_back(std::move(kept));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CopyStream>> CopyStream::Create(std::shared_ptr<CudaContext> context,
                                                               std::function<void()> ended) {
  if (absl::Status entered = context->Enter(); !entered.ok()) return entered;
  CudaStreamHandle stream = nullptr;
  absl::Status created = context->Check(context->runtime().StreamCreate(&stream), "cudaStreamCreateWithFlags");
  if (!created.ok()) return created;
  return absl::WrapUnique(new CopyStream(std::move(context), stream, std::move(ended)));
}

CopyStream::~CopyStream() {
  static_cast<void>(context_->Enter());
  absl::MutexLock lock(&mutex_);
  // Freeing it would wait for the casts that use it.
  if (scratch_ != nullptr && all_over_ == false) KeepForGood(std::move(scratch_));
  for (CudaEventHandle event : free_events_) {
    static_cast<void>(context_->Check(context_->runtime().EventDestroy(event), "cudaEventDestroy"));
  }
  static_cast<void>(context_->Check(context_->runtime().StreamDestroy(stream_), "cudaStreamDestroy"));
}

void CopyStream::Copy(absl::string_view source, char* destination, Device::CopyDone done) {
  Outcome how;
  {
    absl::MutexLock lock(&mutex_);
    // With the lock, so that nothing is queued once AllOver has been asked.
    how.status = context_->Enter();
    if (how.status.ok()) how = Finish(QueueCopy(source, destination), done);
  }
  if (!how.status.ok()) End(std::move(done), std::move(how));
}

void CopyStream::CopyCast(FloatCast cast, absl::string_view source, char* destination, Device::CopyDone done) {
  Outcome how;
  {
    absl::MutexLock lock(&mutex_);
    how.status = context_->Enter();
    if (how.status.ok()) how = Finish(QueueCast(cast, source, destination), done);
  }
  if (!how.status.ok()) End(std::move(done), std::move(how));
}

absl::Status CopyStream::QueueCopy(absl::string_view source, char* destination) {
  if (source.empty()) return absl::OkStatus();
  return context_->Check(context_->runtime().CopyToDevice(destination, source.data(), source.size(), stream_),
                         absl::StrCat("cudaMemcpyAsync of ", source.size(), " bytes to the device"));
}

absl::Status CopyStream::PrepareToCast() {
  absl::MutexLock lock(&mutex_);
  return HaveScratch();
}

absl::Status CopyStream::HaveScratch() {
  if (scratch_ != nullptr) return absl::OkStatus();
  auto scratch = CudaMemory::Allocate(context_, kScratchBytes, "casting on arrival");
  if (!scratch.ok()) return scratch.status();
  scratch_ = *std::move(scratch);
  return absl::OkStatus();
}

absl::Status CopyStream::QueueCast(FloatCast cast, absl::string_view source, char* destination) {
  if (absl::Status scratch = HaveScratch(); !scratch.ok()) return scratch;
  while (!source.empty()) {
    const absl::string_view piece = source.substr(0, kScratchBytes);
    if (absl::Status copied = QueueCopy(piece, scratch_->data()); !copied.ok()) return copied;
    const uint64_t elements = piece.size() / CastSourceBytes(cast);
    const CudaError error = context_->runtime().Cast(cast, scratch_->data(), destination, elements, stream_);
    absl::Status launched = context_->Check(error, absl::StrCat("casting ", elements, " elements"));
    if (!launched.ok()) return launched;
    destination += elements * CastDestinationBytes(cast);
    source.remove_prefix(piece.size());
  }
  return absl::OkStatus();
}

CopyStream::Outcome CopyStream::Finish(absl::Status queued, Device::CopyDone& done) {
  CudaRuntime& runtime = context_->runtime();
  absl::StatusOr<CudaEventHandle> event = queued.ok() ? TakeEvent() : queued;
  if (event.ok()) {
    absl::Status recorded = context_->Check(runtime.EventRecord(*event, stream_), "cudaEventRecord");
    if (recorded.ok()) {
      pending_.push_back({*event, std::move(done)});
      return {};
    }
    free_events_.push_back(*event);
    event = std::move(recorded);
  }
  // Without an event nothing says when the slot may be written again: wait here, this once.
  const bool over = WaitForAll();
  if (!over) TellKept(1);
  return {event.status(), over};
}

bool CopyStream::WaitForAll() {
  const absl::Status waited = context_->Check(context_->runtime().StreamSynchronize(stream_), "cudaStreamSynchronize");
  if (waited.ok()) return true;
  // Whoever cannot wait for a device cannot use it.
  context_->Fail(waited, CudaContext::Copies::kMayGoOn);
  return context_->copies_after_failure() == CudaContext::Copies::kHaveEnded;
}

bool CopyStream::AllOver() {
  if (all_over_.has_value()) return *all_over_;
  switch (context_->copies_after_failure()) {
    case CudaContext::Copies::kHaveEnded:
      all_over_ = true;
      break;
    case CudaContext::Copies::kMayGoOn:
      all_over_ = WaitForAll();
      break;
    case CudaContext::Copies::kDoNotEnd:
      all_over_ = false;
      break;
  }
  if (!*all_over_) {
    absl::MutexLock lock(&mutex_);
    TellKept(1 + pending_.size());
  }
  return *all_over_;
}

void CopyStream::TellKept(size_t copies) {
  context_->AddToFailure(absl::StrCat(copies, copies == 1 ? " copy" : " copies",
                                      " may still be under way: the staging slots and targets of these are kept until "
                                      "this process ends"));
}

void CopyStream::End(Device::CopyDone done, Outcome how) {
  done(std::move(how.status));
  if (!how.over) KeepForGood(std::move(done));
  // What it holds (a slot) is let go now.
  done = nullptr;
  ended_();
}

absl::StatusOr<CudaEventHandle> CopyStream::TakeEvent() {
  if (!free_events_.empty()) {
    CudaEventHandle event = free_events_.back();
    free_events_.pop_back();
    return event;
  }
  CudaEventHandle event = nullptr;
  absl::Status created = context_->Check(context_->runtime().EventCreate(&event), "cudaEventCreateWithFlags");
  if (!created.ok()) return created;
  return event;
}

bool CopyStream::TakeDone(Pending& first, Outcome& how) {
  absl::MutexLock lock(&mutex_);
  if (pending_.empty()) return false;
  how.status = context_->Health();
  if (how.status.ok()) {
    const CudaError error = context_->runtime().EventQuery(pending_.front().event);
    if (error == kCudaNotReady) return false;
    how.status = context_->Check(error, "a copy to the device, or cudaEventQuery behind it,");
    // What cannot be asked is not known to have gone well, now or ever.
    if (!how.status.ok()) context_->Fail(how.status, CudaContext::Copies::kMayGoOn);
  }
  first = std::move(pending_.front());
  pending_.pop_front();
  free_events_.push_back(first.event);
  return true;
}

size_t CopyStream::Poll() {
  size_t done = 0;
  Pending first;
  Outcome how;
  for (; TakeDone(first, how); ++done) {
    // Without the lock: whoever wants to queue a copy now is refused by the failed device, and does not wait for it.
    how.over = how.status.ok() || AllOver();
    End(std::move(first.done), std::move(how));
  }
  return done;
}

}  // namespace weightstream
