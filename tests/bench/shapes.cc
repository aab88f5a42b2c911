#include "tests/bench/shapes.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weightstream::bench {
namespace {

constexpr uint64_t kElementBytes = 2;
constexpr uint64_t kHidden = 4096;

// Cuts bytes into BF16 tensors one after the other.
class Cutter {
 public:
  explicit Cutter(absl::string_view bytes) : rest_(bytes) {}

  absl::Status Cut(std::string name, std::vector<uint64_t> shape) {
    uint64_t bytes = kElementBytes;
    for (const uint64_t dimension : shape) bytes *= dimension;
    if (bytes > rest_.size() || bytes == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("no bytes left for ", name, " of ", bytes, " bytes; give a larger --total_mib"));
    }
    tensors_.push_back({{std::move(name), DType::kBF16, std::move(shape)}, rest_.substr(0, bytes)});
    rest_.remove_prefix(bytes);
    return absl::OkStatus();
  }

  uint64_t rest() const { return rest_.size(); }
  std::vector<MemoryTensor> Take() { return std::move(tensors_); }

 private:
  absl::string_view rest_;
  std::vector<MemoryTensor> tensors_;
};

struct Matrix {
  std::string name;
  uint64_t rows;
  uint64_t columns;
};

std::vector<Matrix> LlamaMatrices() {
  constexpr uint64_t kKeyValue = 1024, kFeedForward = 14336, kVocabulary = 128256;
  constexpr int kLayers = 32;
  std::vector<Matrix> matrices = {{"model.embed_tokens.weight", kVocabulary, kHidden}};
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    matrices.push_back({prefix + "self_attn.q_proj.weight", kHidden, kHidden});
    matrices.push_back({prefix + "self_attn.k_proj.weight", kKeyValue, kHidden});
    matrices.push_back({prefix + "self_attn.v_proj.weight", kKeyValue, kHidden});
    matrices.push_back({prefix + "self_attn.o_proj.weight", kHidden, kHidden});
    matrices.push_back({prefix + "mlp.gate_proj.weight", kFeedForward, kHidden});
    matrices.push_back({prefix + "mlp.up_proj.weight", kFeedForward, kHidden});
    matrices.push_back({prefix + "mlp.down_proj.weight", kHidden, kFeedForward});
  }
  matrices.push_back({"lm_head.weight", kVocabulary, kHidden});
  return matrices;
}

std::vector<std::string> LlamaNorms() {
  std::vector<std::string> names = {"model.norm.weight"};
  for (int layer = 0; layer < 32; ++layer) {
    names.push_back(absl::StrCat("model.layers.", layer, ".input_layernorm.weight"));
    names.push_back(absl::StrCat("model.layers.", layer, ".post_attention_layernorm.weight"));
  }
  return names;
}

}  // namespace

absl::StatusOr<std::vector<MemoryTensor>> CutOne(absl::string_view bytes) {
  Cutter cutter(bytes);
  const uint64_t rows = bytes.size() / (kHidden * kElementBytes);
  if (absl::Status status = cutter.Cut("model.weight", {rows, kHidden}); !status.ok()) return status;
  return cutter.Take();
}

absl::StatusOr<std::vector<MemoryTensor>> CutLlama(absl::string_view bytes) {
  Cutter cutter(bytes);
  for (const std::string& name : LlamaNorms()) {
    if (absl::Status status = cutter.Cut(name, {kHidden}); !status.ok()) return status;
  }
  const std::vector<Matrix> matrices = LlamaMatrices();
  uint64_t whole = 0;
  for (const Matrix& matrix : matrices) whole += matrix.rows * matrix.columns * kElementBytes;
  const double scale = static_cast<double>(cutter.rest()) / static_cast<double>(whole);
  for (const Matrix& matrix : matrices) {
    const auto rows = static_cast<uint64_t>(static_cast<double>(matrix.rows) * scale);
    const absl::Status status = cutter.Cut(matrix.name, {std::max<uint64_t>(rows, 1), matrix.columns});
    if (!status.ok()) return status;
  }
  return cutter.Take();
}

absl::StatusOr<std::vector<MemoryTensor>> CutSmall(absl::string_view bytes) {
  Cutter cutter(bytes);
  for (int i = 0; cutter.rest() >= kSmallTensorBytes; ++i) {
    const absl::Status status = cutter.Cut(absl::StrCat("model.experts.", i, ".weight"), {32, 64});
    if (!status.ok()) return status;
  }
  return cutter.Take();
}

}  // namespace weightstream::bench
