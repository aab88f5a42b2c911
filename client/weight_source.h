// Where the weights to push come from.
#ifndef WEIGHTSTREAM_CLIENT_WEIGHT_SOURCE_H_
#define WEIGHTSTREAM_CLIENT_WEIGHT_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "tensor/spec.h"

namespace weightstream {

// A set of tensors and their bytes, which are borrowed, never copied. Immutable and readable from any thread while a
// push that uses it runs.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // In the order in which reading is fastest.
  virtual const std::vector<TensorSpec>& tensors() const = 0;

  // Row-major bytes of tensors()[index], of its size exactly. Lives as long as the source.
  virtual absl::string_view data(size_t index) const = 0;

  virtual const Metadata& metadata() const = 0;

  // Names these very bytes; see BeginUpdateRequest.source_id. Equal ids must mean equal bytes: a resume relies on it.
  // At most 256 bytes.
  virtual const std::string& source_id() const = 0;

  // Asked before each commit, from several threads at a time. FAILED_PRECONDITION says what of the source has changed
  // since it was made; the push then fails and drops what it has sent. Sources that cannot tell say OK.
  virtual absl::Status CheckUnchanged() const { return absl::OkStatus(); }

  // What ValidateSource returned for it, if it was asked when the source was made: it need not look through 100,000
  // tensors once more. Only for sources that nothing can change.
  virtual absl::optional<uint64_t> validated_bytes() const { return absl::nullopt; }
};

// A checkpoint on disk, memory-mapped: a .safetensors file or a Hugging Face folder. The id comes from the files'
// identities, so that a new process with the same files resumes what another began, and CheckUnchanged compares these
// again. Errors as Checkpoint::Open.
absl::StatusOr<std::unique_ptr<WeightSource>> OpenCheckpointSource(const std::string& path);

struct MemoryTensor {
  TensorSpec spec;
  // Must stay valid and unchanged for as long as the source.
  absl::string_view data;
};

// Tensors in the caller's memory. `source_id` names the bytes, for instance "run 17, step 4200"; where it is empty a
// random one is made, which no other process can resume. INVALID_ARGUMENT for a bad manifest, data that are not of
// their tensor's size, or an id that is too long.
absl::StatusOr<std::unique_ptr<WeightSource>> NewMemorySource(std::vector<MemoryTensor> tensors, Metadata metadata = {},
                                                              std::string source_id = "");

// What a push or a comparison checks first: the manifest is valid, every tensor's data have its size, the id is not too
// long. Returns the bytes of all tensors; INVALID_ARGUMENT names the tensor.
absl::StatusOr<uint64_t> ValidateSource(const WeightSource& source);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_WEIGHT_SOURCE_H_
