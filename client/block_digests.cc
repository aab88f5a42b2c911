#include "client/block_digests.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "tensor/spec.h"

namespace weightstream {

absl::StatusOr<ByteRanges> DifferingRanges(absl::string_view data, const v1::TensorDigest& digest,
                                           const std::function<void(uint64_t)>& on_block) {
  const uint64_t block_bytes = digest.block_bytes();
  const uint64_t blocks = data.empty() ? 0 : block_bytes == 0 ? 0 : (data.size() - 1) / block_bytes + 1;
  if ((block_bytes == 0 && !data.empty()) || static_cast<uint64_t>(digest.crc32c_size()) != blocks) {
    return absl::InternalError(absl::StrCat("the server's digest of tensor \"", Printable(digest.spec().name()),
                                            "\" has ", digest.crc32c_size(), " blocks of ", block_bytes, " bytes for ",
                                            data.size(),
                                            " bytes; is it a weightstream server of a compatible version?"));
  }
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
