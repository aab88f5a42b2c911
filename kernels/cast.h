// Casts between F32, BF16 and F16, for a target whose dtype is not the source's: the processor's form of the GPU
// kernel, with identical bits. cast_element.h has the rules.
#ifndef WEIGHTSTREAM_KERNELS_CAST_H_
#define WEIGHTSTREAM_KERNELS_CAST_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/cast_element.h"
#include "tensor/dtype.h"

namespace weightstream {

// The cast from one dtype to another. INVALID_ARGUMENT, naming both, where there is none; equal dtypes need none.
absl::StatusOr<FloatCast> FindFloatCast(DType from, DType to);

// Bytes of one element before and after.
uint32_t CastSourceBytes(FloatCast cast);
uint32_t CastDestinationBytes(FloatCast cast);

// Casts `elements` elements. The regions must not overlap; they need no alignment. Pure, any thread.
void CastElements(FloatCast cast, const char* source, char* destination, uint64_t elements);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_KERNELS_CAST_H_
