// The kernels: casts and the digest. Their arithmetic is in headers shared with their CPU twins.
#include <cstdint>

#include "kernels/cast_element.h"
#include "kernels/cuda/kernels.h"
#include "kernels/digest_segment.h"

namespace weightstream {
namespace {

constexpr unsigned kCastThreads = 256;
// Each thread casts this many elements at a time where the addresses allow: 8 or 16 bytes a load and a store.
constexpr unsigned kCastVector = 4;
// Enough to fill the largest of today's GPUs several times over; each thread walks on from there.
constexpr unsigned kMostCastBlocks = 4096;

template <typename Element>
struct alignas(kCastVector * sizeof(Element)) Vector {
  Element elements[kCastVector];
};

template <typename From, typename To, To (*Convert)(From)>
__global__ void CastKernel(const From* __restrict__ source, To* __restrict__ destination, uint64_t elements,
                           bool vectors) {
  const uint64_t thread = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const uint64_t threads = uint64_t{gridDim.x} * blockDim.x;
  uint64_t first_alone = 0;
  if (vectors) {
    const auto* from = reinterpret_cast<const Vector<From>*>(source);
    auto* to = reinterpret_cast<Vector<To>*>(destination);
    const uint64_t count = elements / kCastVector;
    for (uint64_t i = thread; i < count; i += threads) {
      const Vector<From> in = from[i];
      Vector<To> out;
#pragma unroll
      for (unsigned lane = 0; lane < kCastVector; ++lane) out.elements[lane] = Convert(in.elements[lane]);
      to[i] = out;
    }
    first_alone = count * kCastVector;
  }
  for (uint64_t i = first_alone + thread; i < elements; i += threads) destination[i] = Convert(source[i]);
}

template <typename From, typename To, To (*Convert)(From)>
cudaError_t LaunchCast(const char* source, char* destination, uint64_t elements, cudaStream_t stream) {
  const bool vectors = reinterpret_cast<uintptr_t>(source) % sizeof(Vector<From>) == 0 &&
                       reinterpret_cast<uintptr_t>(destination) % sizeof(Vector<To>) == 0;
  const uint64_t wanted = (elements + kCastThreads * kCastVector - 1) / (kCastThreads * kCastVector);
  const unsigned blocks = static_cast<unsigned>(wanted < kMostCastBlocks ? wanted : kMostCastBlocks);
  CastKernel<From, To, Convert><<<blocks, kCastThreads, 0, stream>>>(
      reinterpret_cast<const From*>(source), reinterpret_cast<To*>(destination), elements, vectors);
  return cudaGetLastError();
}

__constant__ const DigestTable kDigestTable = MakeDigestTable();
constexpr unsigned kBanks = 32;

// One block a segment, one thread a lane.
__global__ void __launch_bounds__(kDigestLanes)
    DigestKernel(const char* __restrict__ memory, uint64_t bytes, uint32_t* __restrict__ remainders) {
  // A copy of the table for each bank: [entry][bank].
  __shared__ uint32_t table[kDigestTableEntries * kBanks];
  __shared__ uint32_t sums[kDigestLanes];
  const uint32_t lane = threadIdx.x;
  for (uint32_t i = lane; i < kDigestTableEntries * kBanks; i += kDigestLanes) {
    table[i] = kDigestTable.entries[i / kBanks];
  }
  __syncthreads();

  const uint64_t begin = blockIdx.x * kDigestSegmentBytes;
  const uint64_t left = bytes - begin;
  const char* const segment = memory + begin;
  const DigestSegmentShape shape =
      ShapeOfSegment(reinterpret_cast<uintptr_t>(segment),
                     static_cast<uint32_t>(left < kDigestSegmentBytes ? left : kDigestSegmentBytes));
  const auto* const words = reinterpret_cast<const uint32_t*>(segment - shape.lead);
  const uint32_t* const bank = table + lane % kBanks;
  uint32_t sum = 0;
#pragma unroll 8
  for (uint32_t row = 0; row < shape.rows; ++row) {
    const uint32_t place = row * kDigestLanes + lane;
    uint32_t next = 0;
#pragma unroll
    for (uint32_t k = 0; k < 8; ++k) next ^= bank[(16 * k + (sum >> 4 * k & 15)) * kBanks];
    sum = next;
    if (place >= shape.absent) {
      const uint32_t word = words[place - shape.absent];
      sum ^= place == shape.absent ? WithoutLead(word, shape.lead) : word;
    }
  }
  sums[lane] = crc32c::Multiply(sum, WordPower(kDigestLanes - lane));
  for (uint32_t half = kDigestLanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) sums[lane] ^= sums[lane + half];
  }
  if (lane == 0) {
    uint32_t remainder = sums[0];
    const char* const tail = reinterpret_cast<const char*>(words + shape.words);
    for (uint32_t i = 0; i < shape.tail; ++i) remainder = AppendByte(remainder, static_cast<uint8_t>(tail[i]));
    remainders[blockIdx.x] = remainder;
  }
}

}  // namespace

cudaError_t CastOnDevice(FloatCast cast, const char* source, char* destination, uint64_t elements,
                         cudaStream_t stream) {
  if (elements == 0) return cudaSuccess;
  switch (cast) {
    case FloatCast::kF32ToBf16:
      return LaunchCast<uint32_t, uint16_t, F32ToBf16Bits>(source, destination, elements, stream);
    case FloatCast::kF32ToF16:
      return LaunchCast<uint32_t, uint16_t, F32ToF16Bits>(source, destination, elements, stream);
    case FloatCast::kBf16ToF32:
      return LaunchCast<uint16_t, uint32_t, Bf16ToF32Bits>(source, destination, elements, stream);
    case FloatCast::kF16ToF32:
      return LaunchCast<uint16_t, uint32_t, F16ToF32Bits>(source, destination, elements, stream);
    case FloatCast::kBf16ToF16:
      return LaunchCast<uint16_t, uint16_t, Bf16ToF16Bits>(source, destination, elements, stream);
    case FloatCast::kF16ToBf16:
      return LaunchCast<uint16_t, uint16_t, F16ToBf16Bits>(source, destination, elements, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t DigestSegmentsOnDevice(const char* memory, uint64_t bytes, uint32_t* remainders, cudaStream_t stream) {
  const uint64_t segments = DigestSegmentCount(bytes);
  if (segments == 0) return cudaSuccess;
  if (segments > 0x7FFFFFFF) return cudaErrorInvalidValue;
  DigestKernel<<<static_cast<unsigned>(segments), kDigestLanes, 0, stream>>>(memory, bytes, remainders);
  return cudaGetLastError();
}

}  // namespace weightstream
