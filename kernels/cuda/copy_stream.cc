#include "kernels/cuda/copy_stream.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "kernels/cast.h"

namespace weightstream {
namespace {

// A chunk of the usual size in one piece; larger ones are cast piece by piece.
constexpr uint64_t kScratchBytes = 4 << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<CopyStream>> CopyStream::Create(std::shared_ptr<CudaContext> context) {
  if (absl::Status entered = context->Enter(); !entered.ok()) return entered;
  CudaStreamHandle stream = nullptr;
  absl::Status created = context->Check(context->runtime().StreamCreate(&stream), "cudaStreamCreateWithFlags");
  if (!created.ok()) return created;
  return absl::WrapUnique(new CopyStream(std::move(context), stream));
}

CopyStream::~CopyStream() {
  static_cast<void>(context_->Enter());
  absl::MutexLock lock(&mutex_);
  for (CudaEventHandle event : free_events_) {
    static_cast<void>(context_->Check(context_->runtime().EventDestroy(event), "cudaEventDestroy"));
  }
  static_cast<void>(context_->Check(context_->runtime().StreamDestroy(stream_), "cudaStreamDestroy"));
}

void CopyStream::Copy(absl::string_view source, char* destination, Device::CopyDone done) {
  absl::Status status = context_->Enter();
  if (status.ok()) {
    absl::MutexLock lock(&mutex_);
    status = Finish(QueueCopy(source, destination), done);
  }
  if (!status.ok()) done(std::move(status));
}

void CopyStream::CopyCast(FloatCast cast, absl::string_view source, char* destination, Device::CopyDone done) {
  absl::Status status = context_->Enter();
  if (status.ok()) {
    absl::MutexLock lock(&mutex_);
    status = Finish(QueueCast(cast, source, destination), done);
  }
  if (!status.ok()) done(std::move(status));
}

absl::Status CopyStream::QueueCopy(absl::string_view source, char* destination) {
  if (source.empty()) return absl::OkStatus();
  return context_->Check(context_->runtime().CopyToDevice(destination, source.data(), source.size(), stream_),
                         absl::StrCat("cudaMemcpyAsync of ", source.size(), " bytes to the device"));
}

absl::Status CopyStream::QueueCast(FloatCast cast, absl::string_view source, char* destination) {
  if (scratch_ == nullptr) {
    auto scratch = CudaMemory::Allocate(context_, kScratchBytes, "casting on arrival");
    if (!scratch.ok()) return scratch.status();
    scratch_ = *std::move(scratch);
  }
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

absl::Status CopyStream::Finish(absl::Status queued, Device::CopyDone& done) {
  CudaRuntime& runtime = context_->runtime();
  absl::StatusOr<CudaEventHandle> event = queued.ok() ? TakeEvent() : queued;
  if (event.ok()) {
    absl::Status recorded = context_->Check(runtime.EventRecord(*event, stream_), "cudaEventRecord");
    if (recorded.ok()) {
      pending_.push_back({*event, std::move(done)});
      return absl::OkStatus();
    }
    free_events_.push_back(*event);
    event = std::move(recorded);
  }
  // Without an event nothing says when the slot may be written again: wait here, this once.
  const absl::Status waited = context_->Check(runtime.StreamSynchronize(stream_), "cudaStreamSynchronize");
  // Whoever cannot wait for a device cannot use it.
  if (!waited.ok()) context_->Fail(waited);
  return event.status();
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

bool CopyStream::TakeDone(Pending& first, absl::Status& how) {
  absl::MutexLock lock(&mutex_);
  if (pending_.empty()) return false;
  how = context_->Health();
  if (how.ok()) {
    const CudaError error = context_->runtime().EventQuery(pending_.front().event);
    if (error == kCudaNotReady) return false;
    how = context_->Check(error, "a copy to the device, or cudaEventQuery behind it,");
    // What cannot be asked is not known to be done, now or ever.
    if (!how.ok()) context_->Fail(how);
  }
  first = std::move(pending_.front());
  pending_.pop_front();
  free_events_.push_back(first.event);
  return true;
}

size_t CopyStream::Poll() {
  size_t done = 0;
  Pending first;
  absl::Status how;
  for (; TakeDone(first, how); ++done) {
    first.done(std::move(how));
    // What it holds (a slot) is let go now, not with the next one.
    first.done = nullptr;
  }
  return done;
}

}  // namespace weightstream
