#include "client/block_digests.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "tensor/spec.h"

namespace weightstream {

namespace {

// How many blocks so many bytes have; INTERNAL if the digest has not as many.
absl::StatusOr<uint64_t> CheckBlocks(uint64_t bytes, const v1::TensorDigest& digest) {
  const uint64_t block_bytes = digest.block_bytes();
  const uint64_t blocks = bytes == 0 || block_bytes == 0 ? 0 : (bytes - 1) / block_bytes + 1;
  if ((block_bytes > 0 || bytes == 0) && static_cast<uint64_t>(digest.crc32c_size()) == blocks) return blocks;
  return absl::InternalError(absl::StrCat("the server's digest of tensor \"", Printable(digest.spec().name()),
                                          "\" has ", digest.crc32c_size(), " blocks of ", block_bytes, " bytes for ",
                                          bytes, " bytes; is it a weightstream server of a compatible version?"));
}

}  // namespace

absl::StatusOr<ByteRanges> DifferingRanges(absl::string_view data, const v1::TensorDigest& digest,
                                           const std::function<void(uint64_t)>& on_block) {
  const absl::StatusOr<uint64_t> checked = CheckBlocks(data.size(), digest);
  if (!checked.ok()) return checked.status();
  const uint64_t block_bytes = digest.block_bytes();
  const uint64_t blocks = *checked;
  ByteRangeSet differing;
  for (uint64_t block = 0; block < blocks; ++block) {
    const uint64_t begin = block * block_bytes;
    const uint64_t end = begin + std::min<uint64_t>(block_bytes, data.size() - begin);
    if (ExtendCrc32c(0, data.substr(begin, end - begin)) != digest.crc32c(static_cast<int>(block))) {
      differing.Add({begin, end});
    }
    on_block(end - begin);
  }
  return differing.ranges();
}

absl::StatusOr<ByteRanges> DifferingHeldRanges(const HeldForm& form, absl::string_view tensor,
                                               const v1::TensorDigest& digest,
                                               const std::function<void(uint64_t)>& on_block) {
  if (form.as_pushed()) return DifferingRanges(tensor, digest, on_block);
  if (const auto checked = CheckBlocks(form.bytes(), digest); !checked.ok()) return checked.status();
  ByteRangeSet differing;
  const uint64_t block_bytes = digest.block_bytes();
  uint64_t at = 0;
  uint32_t crc = 0;
  const auto end_block = [&](uint64_t end) {
    const uint64_t block = (end - 1) / block_bytes;
    if (crc != digest.crc32c(static_cast<int>(block))) differing.Add({block * block_bytes, end});
    crc = 0;
  };
  form.ForEachPiece(tensor, [&](absl::string_view held, uint64_t taken) {
    while (!held.empty()) {
      const absl::string_view part = held.substr(0, block_bytes - at % block_bytes);
      crc = ExtendCrc32c(crc, part);
      held.remove_prefix(part.size());
      at += part.size();
      if (at % block_bytes == 0 || at == form.bytes()) end_block(at);
    }
    on_block(taken);
  });
  return differing.ranges();
}

std::string DescribeRanges(const ByteRanges& ranges) {
  constexpr size_t kMost = 4;
  std::string text = "bytes differ in ";
  for (size_t i = 0; i < std::min(ranges.size(), kMost); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", "[", ranges[i].begin, ", ", ranges[i].end, ")");
  }
  if (ranges.size() > kMost) absl::StrAppend(&text, " and ", ranges.size() - kMost, " more ranges");
  return text;
}

}  // namespace weightstream
