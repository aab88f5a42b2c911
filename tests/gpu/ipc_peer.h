// The other process of the CUDA IPC tests: it allocates device memory of its own and names it, says what it sees there,
// and opens what is named to it. Over the bare runtime, so that our code for sharing is on one side only.
#ifndef WEIGHTSTREAM_TESTS_GPU_IPC_PEER_H_
#define WEIGHTSTREAM_TESTS_GPU_IPC_PEER_H_

#include <iosfwd>
#include <string>

#include "kernels/cuda/runtime.h"

namespace weightstream {

// Serves one test through two streams, a line each way; bytes are hexadecimal, checksums are CRC32C. First it says
// "HANDLE UUID OFFSET" of its memory, which has `memory` in it; then it answers until the input ends:
//   sum BEGIN BYTES              "CRC" of that part of its own memory
//   open HANDLE OFFSET BYTES     "CRC" of that part of the allocation that the handle names, which it opens and closes
// Where a call of the runtime fails, the answer is "error CALL: WHY". Returns an exit code.
int ServeIpcPeer(CudaRuntime& runtime, const std::string& memory, std::istream& in, std::ostream& out);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_GPU_IPC_PEER_H_
