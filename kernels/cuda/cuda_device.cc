#include "kernels/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/cast.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_target.h"
#include "kernels/digest.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// Read back at a time: large enough for PCIe, small enough to stay in the cache until it is copied on.
constexpr uint64_t kBounceBytes = 1 << 20;
// 256 MiB digested by one launch: enough blocks to fill a GPU many times over, and remainders of 16 KiB.
constexpr uint64_t kSegmentsALaunch = 4096;

}  // namespace

struct CudaDevice::ReadBack {
  explicit ReadBack(std::shared_ptr<CudaContext> its_context) : context(std::move(its_context)) {}
  ~ReadBack() {
    if (stream == nullptr) return;
    static_cast<void>(context->Enter());
    static_cast<void>(context->Check(context->runtime().StreamDestroy(stream), "cudaStreamDestroy"));
  }

  static absl::StatusOr<std::unique_ptr<ReadBack>> Create(std::shared_ptr<CudaContext> context) {
    auto made = std::make_unique<ReadBack>(context);
    if (absl::Status entered = context->Enter(); !entered.ok()) return entered;
    absl::Status created = context->Check(context->runtime().StreamCreate(&made->stream), "cudaStreamCreateWithFlags");
    if (!created.ok()) return created;
    auto remainders = CudaMemory::Allocate(context, kSegmentsALaunch * sizeof(uint32_t), "digests");
    if (!remainders.ok()) return remainders.status();
    made->remainders = *std::move(remainders);
    auto bounce = AllocateCudaPinned(context, kBounceBytes);
    if (!bounce.ok()) return bounce.status();
    made->bounce = *std::move(bounce);
    return made;
  }

  // Brings bytes of the device here, after all that is before them on the stream, by way of page-locked memory of our
  // own: should waiting fail, the device may still write there, and nobody's memory is harmed.
  absl::Status Fetch(const char* from, uint64_t bytes, char* to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    CudaRuntime& runtime = context->runtime();
    while (bytes > 0) {
      const uint64_t part = std::min(bytes, kBounceBytes);
      absl::Status copied = context->Check(runtime.CopyToHost(bounce->data(), from, part, stream),
                                           absl::StrCat("cudaMemcpyAsync of ", part, " bytes to the host"));
      if (!copied.ok()) return copied;
      absl::Status waited = context->Check(runtime.StreamSynchronize(stream), "cudaStreamSynchronize");
      if (!waited.ok()) {
        // What is on its way could come at any time, over what is read next.
        context->Fail(waited, CudaContext::Copies::kMayGoOn);
        return waited;
      }
      std::memcpy(to, bounce->data(), part);
      from += part;
      to += part;
      bytes -= part;
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<CudaContext> context;
  CudaStreamHandle stream = nullptr;
  // One reader or digest at a time uses what is below, and waits for the device with the lock held: nothing else takes
  // it, and two at once would only share the same bandwidth.
  absl::Mutex mutex;
  std::unique_ptr<PinnedMemory> bounce;
  std::unique_ptr<CudaMemory> remainders;
};

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Open(CudaRuntime* runtime, const CudaDeviceOptions& options) {
  if (runtime == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("cuda:", options.index,
                     ": this binary was built without CUDA; use --device=host, or build it where the CUDA "
                     "toolkit is"));
  }
  auto context = CudaContext::Open(*runtime, options.index);
  if (!context.ok()) return context.status();
  auto read_back = ReadBack::Create(*context);
  if (!read_back.ok()) return read_back.status();
  auto device = absl::WrapUnique(new CudaDevice(*context, *std::move(read_back), options.patience));
  for (int i = 0; i < std::max(1, options.copy_streams); ++i) {
    auto stream = CopyStream::Create(*context, [its_device = device.get()] { its_device->CopyEnded(); });
    if (!stream.ok()) return stream.status();
    device->streams_.push_back(*std::move(stream));
  }
  return device;
}

CudaDevice::CudaDevice(std::shared_ptr<CudaContext> context, std::unique_ptr<ReadBack> read_back,
                       absl::Duration patience)
    : context_(std::move(context)),
      read_back_(std::move(read_back)),
      patience_(patience),
      thread_([this] { Work(); }) {}

CudaDevice::~CudaDevice() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
    give_up_ = MonotonicNow() + patience_;
  }
  thread_.join();
}

absl::StatusOr<CudaTarget*> CudaDevice::Ours(Target& target) const {
  auto* const ours = dynamic_cast<CudaTarget*>(&target);
  if (ours == nullptr || ours->context() != context_.get()) {
    return absl::InternalError(
        absl::StrCat(name(), ": the target belongs to another device; this is a defect of the program"));
  }
  return ours;
}

absl::StatusOr<std::unique_ptr<Target>> CudaDevice::CreateTarget(const TargetSpec& spec) {
  auto memory = CudaMemory::Allocate(context_, spec.bytes, "a target");
  if (!memory.ok()) return memory.status();
  return std::make_unique<CudaTarget>(context_, *std::move(memory), /*begin=*/0, spec.bytes);
}

absl::StatusOr<std::unique_ptr<PinnedMemory>> CudaDevice::AllocatePinned(uint64_t bytes) {
  return AllocateCudaPinned(context_, bytes);
}

// ---- Copies ---------------------------------------------------------------------------------------------------------

CopyStream& CudaDevice::StreamForCopy() {
  {
    absl::MutexLock lock(&mutex_);
    ++under_way_;
  }
  return *streams_[next_stream_.fetch_add(1, std::memory_order_relaxed) % streams_.size()];
}

void CudaDevice::CopyEnded() {
  absl::MutexLock lock(&mutex_);
  --under_way_;
}

void CudaDevice::CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) {
  const absl::StatusOr<CudaTarget*> ours = Ours(target);
  // The sum may wrap around: CheckInside then sees a range that ends before it begins.
  const absl::Status inside =
      ours.ok() ? (*ours)->CheckInside({offset, offset + staged.size()}, "copy to") : ours.status();
  if (!inside.ok()) return done(inside);
  StreamForCopy().Copy(staged, (*ours)->At(offset), std::move(done));
}

void CudaDevice::CastToTarget(FloatCast cast, absl::string_view staged, Target& target, uint64_t offset,
                              CopyDone done) {
  const absl::StatusOr<CudaTarget*> ours = Ours(target);
  if (!ours.ok()) return done(ours.status());
  const uint64_t elements = staged.size() / CastSourceBytes(cast);
  if (staged.size() % CastSourceBytes(cast) != 0 || offset % CastDestinationBytes(cast) != 0) {
    return done(absl::InternalError(absl::StrCat(name(), ": cannot cast ", staged.size(), " bytes to byte ", offset,
                                                 ", which are not whole elements; this is a defect of the program")));
  }
  absl::Status inside = (*ours)->CheckInside({offset, offset + elements * CastDestinationBytes(cast)}, "cast to");
  if (!inside.ok()) return done(std::move(inside));
  StreamForCopy().CopyCast(cast, staged, (*ours)->At(offset), std::move(done));
}

absl::Status CudaDevice::PrepareToCast() {
  for (const std::unique_ptr<CopyStream>& stream : streams_) {
    if (absl::Status prepared = stream->PrepareToCast(); !prepared.ok()) return prepared;
  }
  return absl::OkStatus();
}

void CudaDevice::Work() {
  static_cast<void>(context_->Enter());
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &CudaDevice::HasWorkOrEnds));
      if (under_way_ == 0) return;
      if (ending_ && MonotonicNow() > give_up_) {
        context_->Fail(absl::DeadlineExceededError(absl::StrCat(name(), " did not complete ", under_way_,
                                                                " copies within ", absl::FormatDuration(patience_))),
                       CudaContext::Copies::kDoNotEnd);
      }
    }
    size_t done = 0;
    for (const std::unique_ptr<CopyStream>& stream : streams_) done += stream->Poll();
    if (done == 0) absl::SleepFor(kCudaPollInterval);
  }
}

// ---- Reading back ---------------------------------------------------------------------------------------------------

absl::Status CudaDevice::ReadTarget(Target& target, ByteRange range, char* destination) {
  const absl::StatusOr<CudaTarget*> ours = Ours(target);
  if (!ours.ok()) return ours.status();
  if (absl::Status inside = (*ours)->CheckInside(range, "read"); !inside.ok()) return inside;
  if (range.empty()) return absl::OkStatus();
  if (absl::Status entered = context_->Enter(); !entered.ok()) return entered;
  absl::MutexLock lock(&read_back_->mutex);
  return read_back_->Fetch((*ours)->At(range.begin), range.size(), destination);
}

absl::StatusOr<std::vector<uint32_t>> CudaDevice::DigestTarget(Target& target, ByteRange range, uint64_t block_bytes) {
  const absl::StatusOr<CudaTarget*> ours = Ours(target);
  if (!ours.ok()) return ours.status();
  if (absl::Status inside = (*ours)->CheckInside(range, "digest"); !inside.ok()) return inside;
  if (absl::Status block = CheckDigestBlock(block_bytes); !block.ok()) return block;
  std::vector<uint32_t> remainders(DigestSegmentCount(range.size()));
  if (absl::Status digested = DigestSegments(**ours, range, absl::MakeSpan(remainders)); !digested.ok())
    return digested;
  std::vector<uint32_t> digests;
  const uint64_t segments_a_block = block_bytes / kDigestSegmentBytes;
  for (uint64_t at = 0, first = 0; at < range.size(); at += block_bytes, first += segments_a_block) {
    digests.push_back(Crc32cFromRemainders(absl::MakeConstSpan(remainders).subspan(first, segments_a_block),
                                           std::min(block_bytes, range.size() - at)));
  }
  return digests;
}

absl::Status CudaDevice::DigestSegments(const CudaTarget& target, ByteRange range, absl::Span<uint32_t> remainders) {
  if (absl::Status entered = context_->Enter(); !entered.ok()) return entered;
  absl::MutexLock lock(&read_back_->mutex);
  char* const on_device = read_back_->remainders->data();
  for (uint64_t at = range.begin; at < range.end; at += kSegmentsALaunch * kDigestSegmentBytes) {
    const uint64_t bytes = std::min(kSegmentsALaunch * kDigestSegmentBytes, range.end - at);
    const CudaError error = context_->runtime().DigestSegments(
        target.At(at), bytes, reinterpret_cast<uint32_t*>(on_device), read_back_->stream);
    absl::Status status = context_->Check(error, absl::StrCat("digesting ", bytes, " bytes"));
    const absl::Span<uint32_t> part = remainders.subspan(0, DigestSegmentCount(bytes));
    if (status.ok()) {
      status = read_back_->Fetch(on_device, part.size() * sizeof(uint32_t), reinterpret_cast<char*>(part.data()));
    }
    if (!status.ok()) return status;
    remainders.remove_prefix(part.size());
  }
  return absl::OkStatus();
}

// ---- Sharing --------------------------------------------------------------------------------------------------------

absl::StatusOr<SharedMemory> CudaDevice::Export(Target& target) {
  const absl::StatusOr<CudaTarget*> ours = Ours(target);
  if (!ours.ok()) return ours.status();
  return ExportTarget(*context_, **ours);
}

absl::StatusOr<std::unique_ptr<Target>> CudaDevice::Open(const SharedMemory& shared) {
  auto target = OpenShared(context_, shared);
  if (!target.ok()) return target.status();
  return std::unique_ptr<Target>(*std::move(target));
}

}  // namespace weightstream
