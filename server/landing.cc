#include "server/landing.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/checksum.h"
#include "server/registered_targets.h"
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
      absl::StrFormat("chunk of tensor '%s'%s at offset %d, %d bytes: the CRC32C of the data is %08x, the chunk says "
                      "%08x; the range stays missing, "
                      "send it again",
                      Printable(update.layout().tensors[chunk.parts[0].tensor].spec.name),
                      chunk.parts.size() == 1 ? "" : absl::StrCat(" and ", chunk.parts.size() - 1, " that follow it"),
                      chunk.parts[0].range.begin, chunk.bytes, computed, chunk.crc32c));
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
  Claims claims = Claim(chunk);
  if (absl::Status status = Prepare(claims); !status.ok()) {
    update_->ranges().Release(claims.ranges);
    return status;
  }
  // A chunk that brings nothing new is only summed: it needs no slot.
  if (claims.ranges.empty() || !device_.needs_staging()) return LandDirectly(chunk, pieces, claims);
  return LandThroughStaging(chunk, pieces, std::move(claims));
}

ChunkLander::Claims ChunkLander::Claim(const CheckedChunk& chunk) {
  Claims claims;
  claims.ranges = update_->ranges().Claim(chunk.parts);
  size_t next = 0;
  uint64_t part_begin = 0;
  for (const TensorRange& part : chunk.parts) {
    const uint64_t tensor_start = update_->layout().tensors[part.tensor].range.begin;
    for (; next < claims.ranges.size() && claims.ranges[next].tensor == part.tensor; ++next) {
      const ByteRange& range = claims.ranges[next].range;
      // A chunk may name one tensor twice, one behind the other: this is what only the second time brings.
      if (range.begin < part.range.begin) break;
      const uint64_t in_payload = part_begin + (range.begin - part.range.begin);
      const uint64_t in_target = tensor_start + range.begin;
      Run* last = claims.runs.empty() ? nullptr : &claims.runs.back();
      if (last != nullptr && last->in_payload.end == in_payload &&
          last->in_target + last->in_payload.size() == in_target) {
        last->in_payload.end += range.size();
        last->end_claim = next + 1;
      } else {
        claims.runs.push_back({{in_payload, in_payload + range.size()}, in_target, next, next + 1});
      }
    }
    part_begin += part.range.size();
  }
  return claims;
}

absl::Status ChunkLander::Prepare(const Claims& claims) {
  for (const Run& run : claims.runs) {
    absl::Status prepared = update_->target().Prepare({run.in_target, run.in_target + run.in_payload.size()});
    if (!prepared.ok()) return prepared;
  }
  return absl::OkStatus();
}

absl::Status ChunkLander::LandDirectly(const CheckedChunk& chunk, absl::Span<const absl::string_view> pieces,
                                       const Claims& claims) {
  if (absl::Status may = claims.runs.empty() ? absl::OkStatus() : update_->AboutToWrite(); !may.ok()) {
    update_->ranges().Release(claims.ranges);
    return may;
  }
  PieceReader reader(pieces);
  uint32_t crc = 0;
  uint64_t at = 0;
  // What is not ours to write (it has landed, or another stream is writing it) is summed all the same: the checksum is
  // of the whole.
  const auto sum_to = [&](uint64_t end) {
    reader.Take(end - at, [&](absl::string_view part) { crc = ExtendCrc32c(crc, part); });
    at = end;
  };
  for (const Run& run : claims.runs) {
    sum_to(run.in_payload.begin);
    char* destination = update_->target().host_data() + run.in_target;
    reader.Take(run.in_payload.size(), [&](absl::string_view bytes) {
      crc = CopyAndExtendCrc32c(crc, destination, bytes, Stores::kNonTemporal);
      destination += bytes.size();
    });
    at = run.in_payload.end;
  }
  sum_to(chunk.bytes);
  if (crc != chunk.crc32c) {
    update_->ranges().Release(claims.ranges);
    return ChecksumStatus(*update_, chunk, crc);
  }
  update_->ranges().Land(claims.ranges);
  return absl::OkStatus();
}

absl::Status ChunkLander::LandThroughStaging(const CheckedChunk& chunk, absl::Span<const absl::string_view> pieces,
                                             Claims claims) {
  absl::Cleanup release = [&] { update_->ranges().Release(claims.ranges); };
  {
    absl::MutexLock lock(&in_flight_->mutex);
    if (!in_flight_->first_error.ok()) return in_flight_->first_error;
  }
  absl::StatusOr<StagingSlot> acquired = staging_->Acquire(copy_wait_, cancelled_);
  if (!acquired.ok()) return acquired.status();
  uint32_t crc = 0;
  uint64_t filled = 0;
  PieceReader reader(pieces);
  reader.Take(chunk.bytes, [&](absl::string_view part) {
    crc = CopyAndExtendCrc32c(crc, acquired->data() + filled, part, Stores::kCached);
    filled += part.size();
  });
  if (crc != chunk.crc32c) return ChecksumStatus(*update_, chunk, crc);
  absl::StatusOr<std::vector<Copy>> copies =
      update_->placement() == nullptr ? CopiesToArena(claims) : CopiesToTargets(claims, acquired->data());
  if (!copies.ok()) return copies.status();
  if (absl::Status may = update_->AboutToWrite(); !may.ok()) return may;
  std::move(release).Cancel();
  // Shared: a chunk that overlaps what has landed, or whose tensors lie apart, needs several copies.
  const auto staged = std::make_shared<const Staged>(Staged{*std::move(acquired), update_, std::move(claims)});
  for (const Copy& copy : *copies) Start(copy, staged);
  return absl::OkStatus();
}

std::vector<ChunkLander::Copy> ChunkLander::CopiesToArena(const Claims& claims) {
  std::vector<Copy> copies;
  copies.reserve(claims.runs.size());
  for (const Run& run : claims.runs) {
    copies.push_back({run.in_payload.begin, run.in_payload.size(), &update_->target(), run.in_target, absl::nullopt,
                      run.first_claim, run.end_claim});
  }
  return copies;
}

absl::StatusOr<std::vector<ChunkLander::Copy>> ChunkLander::CopiesToTargets(const Claims& claims, char* staged) {
  std::vector<Copy> copies;
  copies.reserve(claims.ranges.size());
  for (const Run& run : claims.runs) {
    uint64_t in_slot = run.in_payload.begin;
    for (size_t claim = run.first_claim; claim < run.end_claim; ++claim) {
      const TensorRange& range = claims.ranges[claim];
      absl::StatusOr<BoundTargets::Write> write =
          update_->placement()->Place(update_->layout(), range, staged + in_slot);
      if (!write.ok()) return write.status();
      copies.push_back({in_slot, write->bytes, write->target, write->offset, write->cast, claim, claim + 1});
      in_slot += range.range.size();
    }
  }
  return copies;
}

void ChunkLander::Start(const Copy& copy, const std::shared_ptr<const Staged>& staged) {
  const auto ranges =
      absl::MakeConstSpan(staged->claims.ranges).subspan(copy.first_claim, copy.end_claim - copy.first_claim);
  // No target holds any of it: it has been checked, and that is all.
  if (copy.bytes == 0) return update_->ranges().Land(ranges);
  {
    absl::MutexLock lock(&in_flight_->mutex);
    ++in_flight_->copies;
  }
  const absl::string_view bytes(staged->slot.data() + copy.in_slot, copy.bytes);
  auto done = [in_flight = in_flight_, staged, ranges](absl::Status copied) {
    RangeTracker& tracker = staged->update->ranges();
    copied.ok() ? tracker.Land(ranges) : tracker.Release(ranges);
    absl::MutexLock lock(&in_flight->mutex);
    in_flight->first_error.Update(copied);
    if (--in_flight->copies == 0) in_flight->none.SignalAll();
  };
  if (copy.cast.has_value()) {
    device_.CastToTarget(*copy.cast, bytes, *copy.target, copy.in_target, std::move(done));
  } else {
    device_.CopyToTarget(bytes, *copy.target, copy.in_target, std::move(done));
  }
}

absl::Status ChunkLander::Finish() {
  const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(in_flight_->mutex) { return in_flight_->copies == 0; };
  absl::MutexLock lock(&in_flight_->mutex);
  if (!in_flight_->none.AwaitFor(in_flight_->mutex, copy_wait_, done)) {
    return absl::DeadlineExceededError(absl::StrCat(device_.name(), " did not complete ", in_flight_->copies,
                                                    " copies within ", absl::FormatDuration(copy_wait_),
                                                    "; what they carry is still missing"));
  }
  return in_flight_->first_error;
}

}  // namespace weightstream
