// Reads committed versions back from a server, or compares them with a source: the library behind `weightstream pull`
// and `verify`.
#ifndef WEIGHTSTREAM_CLIENT_READ_H_
#define WEIGHTSTREAM_CLIENT_READ_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/connection.h"
#include "client/security.h"
#include "client/weight_source.h"

namespace weightstream {

struct ReadOptions {
  std::string model;
  // 0 is the current version.
  uint64_t version = 0;
  TimeLimits limits;
  Security security;
};

// Bytes done, of how many; called from the calling thread, some twenty times a second.
using ReadProgressCallback = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

struct PullResult {
  uint64_t version = 0;
  uint64_t total_bytes = 0;
  uint64_t tensors = 0;
  // The file that was written.
  std::string path;
};

// Writes the version to FOLDER/model.safetensors (the folder is made if missing), checking each chunk's checksum; the
// file appears only once it is whole. A connection lost in the middle is retried, and only what is missing is asked for
// again. `cancelled`, if given, is asked several times a second from the calling thread; once it says true the call
// ends with CANCELLED. Errors name the server, and keep what it said: NOT_FOUND for an unknown model or version.
absl::StatusOr<PullResult> Pull(const std::string& server, const ReadOptions& options, const std::string& folder,
                                ReadProgressCallback progress = nullptr, std::function<bool()> cancelled = nullptr);

struct Difference {
  std::string tensor;
  // "missing on the server", "not in the source", "F32[2] here, BF16[2] there", "bytes differ in [0, 16777216)".
  std::string what;
};

struct VerifyResult {
  uint64_t version = 0;
  // Compared byte by byte: what both sides have, in the same dtype and shape; where registered targets hold a slice of
  // a tensor, or another dtype, what they hold.
  uint64_t total_bytes = 0;
  // Of either side, each name once; `differing_tensors` are among them.
  uint64_t tensors = 0;
  // Of those on both sides: how many are held as a slice or cast, and were compared as such; and how many no registered
  // target holds, of which nothing could be compared.
  uint64_t converted_tensors = 0;
  uint64_t not_held_tensors = 0;
  // At most 100 are listed; `differing_tensors` counts all.
  std::vector<Difference> differences;
  uint64_t differing_tensors = 0;
};

// Compares every byte of `source` with the version on the server by digests (CRC32C of each block), which the server
// computes from where the version lies now. What targets hold cut or cast is cut and cast here likewise, by the
// processor. A difference is a result, not an error. Metadata are not compared.
absl::StatusOr<VerifyResult> Verify(const WeightSource& source, const std::string& server, const ReadOptions& options,
                                    ReadProgressCallback progress = nullptr, std::function<bool()> cancelled = nullptr);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_READ_H_
