// The contender: the real client library, pushing to a real weightstream-server.
//
//   library_push ADDRESS --shape=one|llama|small --total-mib=4096 --connections=2 --chunk-kib=0
//
// One round: a whole push, commit included; prints a report.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/push.h"
#include "client/weight_source.h"
#include "tests/bench/cycled_buffer.h"
#include "tests/bench/round_report.h"

ABSL_FLAG(std::string, shape, "one",
          "one: a single tensor; llama: the tensors of a Llama-3-8B, scaled; small: tensors of 4 KiB.");
ABSL_FLAG(uint64_t, total_mib, 4096, "MiB to send.");
ABSL_FLAG(uint64_t, period_mib, 1024, "MiB of distinct bytes.");
ABSL_FLAG(uint64_t, chunk_kib, 0, "KiB of data in one message; 0 leaves it to the library.");
ABSL_FLAG(int, connections, 0, "Connections to each server; 0 leaves it to the library.");
ABSL_FLAG(std::string, model, "bench", "The model's name on the server.");

namespace {

using weightstream::DType;
using weightstream::MemoryTensor;

// Cuts `bytes` into tensors one after the other.
class TensorCutter {
 public:
  explicit TensorCutter(absl::string_view bytes) : rest_(bytes) {}

  bool Cut(std::string name, uint64_t rows, uint64_t columns) {
    const uint64_t bytes = rows * columns * 2;
    if (bytes > rest_.size()) return false;
    tensors_.push_back({{std::move(name), DType::kBF16, {rows, columns}}, rest_.substr(0, bytes)});
    rest_.remove_prefix(bytes);
    return true;
  }

  std::vector<MemoryTensor> Take() { return std::move(tensors_); }

 private:
  absl::string_view rest_;
  std::vector<MemoryTensor> tensors_;
};

// Layers of Llama-3-8B's shapes, as many as fit.
void CutLlama(TensorCutter& cutter) {
  constexpr uint64_t kHidden = 4096, kKeyValue = 1024, kFeedForward = 14336, kVocabulary = 128256;
  bool room = cutter.Cut("model.embed_tokens.weight", kVocabulary, kHidden);
  for (int layer = 0; room; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    cutter.Cut(prefix + "input_layernorm.weight", 1, kHidden);
    cutter.Cut(prefix + "self_attn.q_proj.weight", kHidden, kHidden);
    cutter.Cut(prefix + "self_attn.k_proj.weight", kKeyValue, kHidden);
    cutter.Cut(prefix + "self_attn.v_proj.weight", kKeyValue, kHidden);
    cutter.Cut(prefix + "self_attn.o_proj.weight", kHidden, kHidden);
    cutter.Cut(prefix + "mlp.gate_proj.weight", kFeedForward, kHidden);
    cutter.Cut(prefix + "mlp.up_proj.weight", kFeedForward, kHidden);
    room = cutter.Cut(prefix + "mlp.down_proj.weight", kHidden, kFeedForward);
  }
}

std::vector<MemoryTensor> Cut(const std::string& shape, absl::string_view bytes) {
  TensorCutter cutter(bytes);
  if (shape == "llama") {
    CutLlama(cutter);
  } else if (shape == "small") {
    for (int i = 0; cutter.Cut(absl::StrCat("model.experts.", i, ".weight"), 32, 64); ++i) {
    }
  } else {
    cutter.Cut("model.weight", bytes.size() / 8192, 4096);
  }
  return cutter.Take();
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "library_push: %s\n", status.ToString().c_str());
  return 1;
}

int Push(const std::string& addresses) {
  auto buffer = weightstream::bench::CycledBuffer::Create(absl::GetFlag(FLAGS_total_mib) << 20,
                                                          absl::GetFlag(FLAGS_period_mib) << 20);
  if (!buffer.ok()) return Fail(buffer.status());
  auto source = weightstream::NewMemorySource(Cut(absl::GetFlag(FLAGS_shape), (*buffer)->bytes()));
  if (!source.ok()) return Fail(source.status());
  weightstream::PushOptions options;
  options.model = absl::GetFlag(FLAGS_model);
  options.connections = absl::GetFlag(FLAGS_connections);
  options.bucket_limit_bytes = absl::GetFlag(FLAGS_chunk_kib) << 10;
  const weightstream::bench::RoundReport report;
  auto result = weightstream::Push(**source, absl::StrSplit(addresses, ','), options);
  if (!result.ok()) return Fail(result.status());
  if (!result->status.ok()) return Fail(result->status);
  report.Print(result->total_bytes);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() == 2) return Push(arguments[1]);
  std::fprintf(stderr, "usage: library_push ADDRESS[,ADDRESS...]\n");
  return 2;
}
