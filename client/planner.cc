#include "client/planner.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "proto/chunk_codec.h"
#include "tensor/dtype.h"

namespace weightstream {
namespace {

constexpr uint64_t kCopyAlignment = 4096;

// A tensor of this size is worth a chunk of its own: some microseconds are then less than a tenth of what sending it
// takes.
constexpr uint64_t kSmallTensorBytes = 256 << 10;

// The smallest number of bytes that holds whole elements: 3 for the types of 6 bits, 1 for those of 4.
uint64_t ElementBytes(DType dtype) {
  const uint64_t bits = static_cast<uint64_t>(DTypeBits(dtype));
  return std::lcm(bits, uint64_t{8}) / 8;
}

// The coarsest multiple on which chunks of this size can end.
uint64_t Grid(DType dtype, uint64_t chunk_bytes) {
  const uint64_t element = ElementBytes(dtype);
  const uint64_t aligned = std::lcm(element, kCopyAlignment);
  if (chunk_bytes >= aligned) return aligned;
  return chunk_bytes >= element ? element : 1;
}

}  // namespace

ChunkPlan::ChunkPlan(absl::Span<const TensorSpec> tensors, std::vector<MissingTensor> missing, uint64_t chunk_bytes,
                     bool pack)
    : chunk_bytes_(chunk_bytes) {
  const uint64_t small = SmallBytes(pack);
  for (const MissingTensor& tensor : missing) {
    const uint64_t bytes = TensorByteSize(tensors[tensor.tensor]).value();
    if (bytes <= small && tensor.ranges.size() == 1 && tensor.ranges[0] == ByteRange{0, bytes}) {
      small_.push_back({tensor.place, tensor.tensor, bytes});
    } else {
      AddPieces(tensors[tensor.tensor], tensor.tensor, tensor.ranges);
    }
  }
  OrderSmall(tensors.size());
  Pack(tensors);
}

ChunkPlan::ChunkPlan(const ManifestIndex& index, uint64_t chunk_bytes, bool pack) : chunk_bytes_(chunk_bytes) {
  const uint64_t small = SmallBytes(pack);
  const std::vector<TensorSpec>& tensors = index.tensors();
  for (uint32_t tensor = 0; tensor < tensors.size(); ++tensor) {
    const uint64_t bytes = index.bytes(tensor);
    if (bytes > small) AddPieces(tensors[tensor], tensor, {ByteRange{0, bytes}});
  }
  const std::vector<uint32_t>& order = index.layout_order();
  if (pack) small_.reserve(order.size());
  for (uint32_t place = 0; pack && place < order.size(); ++place) {
    const uint64_t bytes = index.bytes(order[place]);
    if (bytes > 0 && bytes <= small) small_.push_back({place, order[place], bytes});
  }
  Pack(tensors);
}

uint64_t ChunkPlan::SmallBytes(bool pack) const { return pack ? std::min(kSmallTensorBytes, chunk_bytes_ / 2) : 0; }

void ChunkPlan::AddPieces(const TensorSpec& spec, uint32_t tensor, absl::Span<const ByteRange> ranges) {
  const uint64_t grid = Grid(spec.dtype, chunk_bytes_);
  for (const ByteRange& range : ranges) {
    if (range.empty()) continue;
    pieces_.push_back({tensor, range, grid});
    total_bytes_ += range.size();
    total_chunks_ += CountChunks(pieces_.back());
  }
}

void ChunkPlan::OrderSmall(size_t tensors) {
  constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  if (small_.empty()) return;
  std::vector<uint32_t> at_place(tensors, kNone);
  for (uint32_t i = 0; i < small_.size(); ++i) at_place[small_[i].place] = i;
  std::vector<SmallTensor> ordered;
  ordered.reserve(small_.size());
  for (const uint32_t i : at_place) {
    if (i != kNone) ordered.push_back(small_[i]);
  }
  small_ = std::move(ordered);
}

void ChunkPlan::Pack(absl::Span<const TensorSpec> tensors) {
  uint64_t bytes = 0;
  uint64_t name_bytes = 0;
  size_t first = 0;
  for (size_t i = 0; i < small_.size(); ++i) {
    const uint64_t name = tensors[small_[i].tensor].name.size();
    if (i > first && (bytes + small_[i].bytes > chunk_bytes_ || i - first > kMaxFollowingTensors ||
                      name_bytes + name > kMaxFollowingNameBytes)) {
      pack_ends_.push_back(i);
      first = i;
      bytes = name_bytes = 0;
    }
    bytes += small_[i].bytes;
    // The first one's too, which the limit does not count: this is only a little stricter.
    name_bytes += name;
    total_bytes_ += small_[i].bytes;
  }
  if (!small_.empty()) pack_ends_.push_back(small_.size());
  total_chunks_ += pack_ends_.size();
}

absl::optional<PlannedChunk> ChunkPlan::NextPack() {
  if (next_pack_ == pack_ends_.size()) return absl::nullopt;
  const size_t first = next_pack_ == 0 ? 0 : pack_ends_[next_pack_ - 1];
  const size_t end = pack_ends_[next_pack_++];
  PlannedChunk chunk{small_[first].tensor, {0, small_[first].bytes}};
  chunk.followed_by.reserve(end - first - 1);
  for (size_t i = first + 1; i < end; ++i) chunk.followed_by.push_back(small_[i].tensor);
  return chunk;
}

uint64_t ChunkPlan::EndOfChunk(uint64_t begin, const Piece& piece) const {
  if (piece.range.end - begin <= chunk_bytes_) return piece.range.end;
  // After `begin`, since a chunk is no shorter than the grid.
  return (begin + chunk_bytes_) / piece.grid * piece.grid;
}

uint64_t ChunkPlan::CountChunks(const Piece& piece) const {
  const uint64_t first_end = EndOfChunk(piece.range.begin, piece);
  const uint64_t rest = piece.range.end - first_end;
  if (rest == 0) return 1;
  if (rest <= chunk_bytes_) return 2;
  // From here on every chunk starts on the grid, and is a whole number of its steps long, but for the last.
  const uint64_t step = chunk_bytes_ / piece.grid * piece.grid;
  return 2 + (rest - chunk_bytes_ + step - 1) / step;
}

absl::optional<PlannedChunk> ChunkPlan::Next() {
  absl::MutexLock lock(&mutex_);
  if (next_piece_ == pieces_.size()) return NextPack();
  const Piece& piece = pieces_[next_piece_];
  const uint64_t begin = piece.range.begin + dealt_;
  const uint64_t end = EndOfChunk(begin, piece);
  dealt_ = end - piece.range.begin;
  if (end == piece.range.end) {
    ++next_piece_;
    dealt_ = 0;
  }
  return PlannedChunk{piece.tensor, {begin, end}};
}

}  // namespace weightstream
