// Where a tensor's bytes differ from the digests of their blocks.
#ifndef WEIGHTSTREAM_CLIENT_BLOCK_DIGESTS_H_
#define WEIGHTSTREAM_CLIENT_BLOCK_DIGESTS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/held_form.h"
#include "tensor/byte_range.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// The blocks of `data` whose CRC32C is not the digest's, neighbours joined. `on_block` is told each block's length once
// it is done. INTERNAL if the digest does not cover the data: no block size, or not as many blocks as there must be.
absl::StatusOr<ByteRanges> DifferingRanges(absl::string_view data, const v1::TensorDigest& digest,
                                           const std::function<void(uint64_t)>& on_block);

// The same where targets hold another form of the tensor: ranges are of what is held. `on_block` is told how many of
// the tensor's own bytes went into each piece.
absl::StatusOr<ByteRanges> DifferingHeldRanges(const HeldForm& form, absl::string_view tensor,
                                               const v1::TensorDigest& digest,
                                               const std::function<void(uint64_t)>& on_block);

// "bytes differ in [0, 16777216), [33554432, 33554500)", cut after the first few.
std::string DescribeRanges(const ByteRanges& ranges);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_BLOCK_DIGESTS_H_
