#include "client/weight_source.h"

#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "client/defaults.h"
#include "tensor/checkpoint.h"

namespace weightstream {
namespace {

class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {
    specs_.reserve(checkpoint_.tensors().size());
    for (const Checkpoint::Tensor& tensor : checkpoint_.tensors()) specs_.push_back(tensor.spec);
  }

  const std::vector<TensorSpec>& tensors() const override { return specs_; }
  absl::string_view data(size_t index) const override { return checkpoint_.tensors()[index].data; }
  const Metadata& metadata() const override { return checkpoint_.metadata(); }
  const std::string& source_id() const override { return checkpoint_.fingerprint(); }
  absl::Status CheckUnchanged() const override { return checkpoint_.CheckUnchanged(); }

 private:
  const Checkpoint checkpoint_;
  std::vector<TensorSpec> specs_;
};

class MemorySource : public WeightSource {
 public:
  MemorySource(std::vector<MemoryTensor> tensors, Metadata metadata, std::string source_id)
      : metadata_(std::move(metadata)), source_id_(std::move(source_id)) {
    specs_.reserve(tensors.size());
    data_.reserve(tensors.size());
    for (MemoryTensor& tensor : tensors) {
      specs_.push_back(std::move(tensor.spec));
      data_.push_back(tensor.data);
    }
  }

  const std::vector<TensorSpec>& tensors() const override { return specs_; }
  absl::string_view data(size_t index) const override { return data_[index]; }
  const Metadata& metadata() const override { return metadata_; }
  const std::string& source_id() const override { return source_id_; }
  absl::optional<uint64_t> validated_bytes() const override { return validated_bytes_; }

  absl::Status Validate() {
    const absl::StatusOr<uint64_t> bytes = ValidateSource(*this);
    if (bytes.ok()) validated_bytes_ = *bytes;
    return bytes.status();
  }

 private:
  absl::optional<uint64_t> validated_bytes_;
  std::vector<TensorSpec> specs_;
  std::vector<absl::string_view> data_;
  const Metadata metadata_;
  const std::string source_id_;
};

std::string RandomSourceId() {
  absl::BitGen random;
  return absl::StrCat("random-", absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16),
                      absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
}

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> OpenCheckpointSource(const std::string& path) {
  absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) return checkpoint.status();
  return std::make_unique<CheckpointSource>(*std::move(checkpoint));
}

absl::StatusOr<std::unique_ptr<WeightSource>> NewMemorySource(std::vector<MemoryTensor> tensors, Metadata metadata,
                                                              std::string source_id) {
  if (source_id.empty()) source_id = RandomSourceId();
  auto source = std::make_unique<MemorySource>(std::move(tensors), std::move(metadata), std::move(source_id));
  if (absl::Status valid = source->Validate(); !valid.ok()) return valid;
  return source;
}

absl::StatusOr<uint64_t> ValidateSource(const WeightSource& source) {
  if (const absl::optional<uint64_t> validated = source.validated_bytes(); validated.has_value()) return *validated;
  if (source.source_id().size() > kMaxSourceIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat("source id \"", Printable(source.source_id()), "\" has ",
                                                   source.source_id().size(), " bytes; give at most ",
                                                   kMaxSourceIdBytes));
  }
  const std::vector<TensorSpec>& tensors = source.tensors();
  const absl::StatusOr<uint64_t> total = ValidateManifest(tensors);
  if (!total.ok()) return total.status();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const absl::StatusOr<uint64_t> bytes = TensorByteSize(tensors[i]);
    if (!bytes.ok()) return bytes.status();
    if (source.data(i).size() == *bytes) continue;
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", Printable(tensors[i].name), "\" is ",
                                                   ShapeString(tensors[i].dtype, tensors[i].shape), " and takes ",
                                                   *bytes, " bytes, but its data have ", source.data(i).size()));
  }
  return *total;
}

}  // namespace weightstream
