#include "server/landing.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/checksum.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

// How many more pieces than tensors an update may be cut into. An orderly sender needs one a tensor and a few a stream;
// with very many, each chunk would take long and the list of what is missing would outgrow any message.
constexpr uint64_t kMostFragments = 100'000;

absl::Status CheckFragments(const Update& update) {
  const uint64_t fragments = update.ranges().fragments();
  if (fragments <= update.layout().tensors.size() + kMostFragments) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("what update ", update.identity().id,
                                                   " still misses has been cut into ", fragments,
                                                   " pieces; send the ranges of each tensor in ascending order"));
}

absl::Status ChecksumStatus(const Update& update, const CheckedChunk& chunk, uint32_t computed) {
  return absl::DataLossError(
      absl::StrFormat("chunk of tensor '%s' at offset %d, %d bytes: the CRC32C of the data is %08x, the chunk says "
                      "%08x; the range stays missing, "
                      "send it again",
                      Printable(update.layout().tensors[chunk.tensor].spec.name), chunk.range.begin, chunk.range.size(),
                      computed, chunk.crc32c));
}

// Walks the pieces of a payload, `bytes` at a time.
class PieceReader {
 public:
  explicit PieceReader(absl::Span<const absl::string_view> pieces) : pieces_(pieces) {}

  // Calls use(piece) for consecutive parts of the payload that make up the next `bytes` bytes.
  template <typename Use>
  void Take(uint64_t bytes, Use use) {
    while (bytes > 0) {
      if (rest_.empty()) {
        rest_ = pieces_.front();
        pieces_.remove_prefix(1);
        continue;
      }
      const absl::string_view part = rest_.substr(0, bytes);
      use(part);
      rest_.remove_prefix(part.size());
      bytes -= part.size();
    }
  }

 private:
  absl::Span<const absl::string_view> pieces_;
  absl::string_view rest_;
};

}  // namespace

ChunkLander::ChunkLander(Device& device, StagingRing* staging, std::shared_ptr<Update> update, absl::Duration copy_wait,
                         std::function<bool()> cancelled)
    : device_(device),
      staging_(staging),
      update_(std::move(update)),
      copy_wait_(copy_wait),
      cancelled_(std::move(cancelled)) {}

ChunkLander::~ChunkLander() = default;

absl::Status ChunkLander::Land(const CheckedChunk& chunk, absl::Span<const absl::string_view> pieces) {
  if (absl::Status receiving = update_->ReceivingStatus(); !receiving.ok()) return receiving;
  if (absl::Status checked = CheckFragments(*update_); !checked.ok()) return checked;
  const std::vector<ByteRange> claimed = update_->ranges().Claim(chunk.tensor, chunk.range);
  absl::Status status = Prepare(update_->layout().tensors[chunk.tensor].range.begin, claimed);
  if (!status.ok()) {
    update_->ranges().Release(chunk.tensor, claimed);
    return status;
  }
  // A chunk that brings nothing new is only summed: it needs no slot.
  if (claimed.empty() || !device_.needs_staging()) return LandDirectly(chunk, pieces, claimed);
  return LandThroughStaging(chunk, pieces, claimed);
}

absl::Status ChunkLander::Prepare(uint64_t tensor_start, const std::vector<ByteRange>& claimed) {
  for (const ByteRange& part : claimed) {
    absl::Status prepared = update_->target().Prepare({tensor_start + part.begin, tensor_start + part.end});
    if (!prepared.ok()) return prepared;
  }
  return absl::OkStatus();
}

absl::Status ChunkLander::LandDirectly(const CheckedChunk& chunk, absl::Span<const absl::string_view> pieces,
                                       const std::vector<ByteRange>& claimed) {
  const uint64_t tensor_start = update_->layout().tensors[chunk.tensor].range.begin;
  PieceReader reader(pieces);
  uint32_t crc = 0;
  uint64_t at = chunk.range.begin;
  // What is not ours to write (it has landed, or another stream is writing it) is summed all the same: the checksum is
  // of the whole.
  const auto sum_to = [&](uint64_t end) {
    reader.Take(end - at, [&](absl::string_view part) { crc = ExtendCrc32c(crc, part); });
    at = end;
  };
  for (const ByteRange& part : claimed) {
    sum_to(part.begin);
    reader.Take(part.size(), [&](absl::string_view bytes) {
      crc = CopyAndExtendCrc32c(crc, update_->target().host_data() + tensor_start + at, bytes);
      at += bytes.size();
    });
  }
  sum_to(chunk.range.end);
  if (crc != chunk.crc32c) {
    update_->ranges().Release(chunk.tensor, claimed);
    return ChecksumStatus(*update_, chunk, crc);
  }
  update_->ranges().Land(chunk.tensor, claimed);
  return absl::OkStatus();
}

absl::Status ChunkLander::LandThroughStaging(const CheckedChunk& chunk, absl::Span<const absl::string_view> pieces,
                                             const std::vector<ByteRange>& claimed) {
  absl::Cleanup release = [&] { update_->ranges().Release(chunk.tensor, claimed); };
  {
    absl::MutexLock lock(&in_flight_->mutex);
    if (!in_flight_->first_error.ok()) return in_flight_->first_error;
  }
  absl::StatusOr<StagingSlot> acquired = staging_->Acquire(absl::Now() + copy_wait_, cancelled_);
  if (!acquired.ok()) return acquired.status();
  // Shared: a chunk that overlaps what has landed may need several copies.
  const auto slot = std::make_shared<StagingSlot>(*std::move(acquired));
  uint32_t crc = 0;
  uint64_t filled = 0;
  PieceReader reader(pieces);
  reader.Take(chunk.range.size(), [&](absl::string_view part) {
    crc = CopyAndExtendCrc32c(crc, slot->data() + filled, part);
    filled += part.size();
  });
  if (crc != chunk.crc32c) return ChecksumStatus(*update_, chunk, crc);
  std::move(release).Cancel();

  const uint64_t tensor_start = update_->layout().tensors[chunk.tensor].range.begin;
  for (const ByteRange& part : claimed) {
    {
      absl::MutexLock lock(&in_flight_->mutex);
      ++in_flight_->copies;
    }
    device_.CopyToTarget(
        absl::string_view(slot->data() + (part.begin - chunk.range.begin), part.size()), update_->target(),
        tensor_start + part.begin,
        [in_flight = in_flight_, update = update_, slot, tensor = chunk.tensor, part](absl::Status copied) {
          if (copied.ok()) {
            update->ranges().Land(tensor, {part});
          } else {
            update->ranges().Release(tensor, {part});
          }
          absl::MutexLock lock(&in_flight->mutex);
          in_flight->first_error.Update(copied);
          --in_flight->copies;
        });
  }
  return absl::OkStatus();
}

absl::Status ChunkLander::Finish() {
  const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(in_flight_->mutex) { return in_flight_->copies == 0; };
  absl::MutexLock lock(&in_flight_->mutex);
  if (!in_flight_->mutex.AwaitWithTimeout(absl::Condition(&done), copy_wait_)) {
    return absl::DeadlineExceededError(absl::StrCat(device_.name(), " did not complete ", in_flight_->copies,
                                                    " copies within ", absl::FormatDuration(copy_wait_),
                                                    "; what they carry is still missing"));
  }
  return in_flight_->first_error;
}

}  // namespace weightstream
