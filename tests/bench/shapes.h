// The shapes of the work: the sets of tensors that a run of bytes is cut into.
#ifndef WEIGHTSTREAM_TESTS_BENCH_SHAPES_H_
#define WEIGHTSTREAM_TESTS_BENCH_SHAPES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/weight_source.h"

namespace weightstream::bench {

inline constexpr uint64_t kSmallTensorBytes = 4096;

// Each borrows `bytes`, which must outlive the tensors. INVALID_ARGUMENT where they are too few.

// One tensor of all the bytes, which are a multiple of 8192.
absl::StatusOr<std::vector<MemoryTensor>> CutOne(absl::string_view bytes);

// The 291 tensors of a Llama-3-8B (15 GiB) with all but their norms scaled, by their rows, to `bytes` in all. What is
// rounded off is left: at most a row of each tensor, 3 MiB together.
absl::StatusOr<std::vector<MemoryTensor>> CutLlama(absl::string_view bytes);

// Tensors of kSmallTensorBytes, as many as fit.
absl::StatusOr<std::vector<MemoryTensor>> CutSmall(absl::string_view bytes);

}  // namespace weightstream::bench

#endif  // WEIGHTSTREAM_TESTS_BENCH_SHAPES_H_
