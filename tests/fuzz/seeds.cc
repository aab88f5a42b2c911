// Writes the first inputs of every fuzz target, made by the code that makes real ones: usage: seeds FOLDER. Each
// target's go to FOLDER/TARGET.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/checksum.h"
#include "tensor/checkpoint_index.h"
#include "tensor/dtype.h"
#include "tensor/safetensors_layout.h"
#include "tensor/spec.h"
#include "tests/fuzz/call_input.h"
#include "tests/fuzz/call_sequence.h"
#include "tests/fuzz/called_methods.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

namespace fs = std::filesystem;

class SeedFolder {
 public:
  SeedFolder(const fs::path& root, const char* target) : path_(root / target) { fs::create_directories(path_); }

  void Add(absl::string_view bytes) {
    std::ofstream file(path_ / absl::StrCat("seed-", count_++, ".bin"), std::ios::binary | std::ios::trunc);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  const fs::path path_;
  int count_ = 0;
};

// Every dtype, and the shapes at which sizes turn.
std::vector<TensorSpec> VariedSpecs() {
  std::vector<TensorSpec> specs;
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    specs.push_back({absl::StrCat("layers.", i, ".weight"), dtype, {static_cast<uint64_t>(i % 3), 8}});
  }
  specs.push_back({"scalar", DType::kF32, {}});
  specs.push_back({"\xc3\xbcml\xc3\xa4ut \"quoted\"", DType::kBF16, {1, 2, 3, 4}});
  return specs;
}

v1::WeightChunk PlainChunk() {
  v1::WeightChunk chunk;
  chunk.set_name("layers.0.weight");
  chunk.add_shape(16);
  chunk.add_shape(2);
  chunk.set_dtype("BF16");
  chunk.set_offset(8);
  chunk.set_data("thirty-two bytes of a tensor....");
  chunk.set_crc32c(ExtendCrc32c(0, chunk.data()));
  chunk.set_update_id("0123456789abcdef0123456789abcdef");
  return chunk;
}

void WriteChunks(const fs::path& root) {
  SeedFolder folder(root, "chunk_codec");
  v1::WeightChunk chunk = PlainChunk();
  folder.Add(absl::StrCat("\x10\x80\xf0", chunk.SerializeAsString()));
  chunk.add_followed_by("layers.0.bias");
  chunk.add_followed_by("layers.1.bias");
  folder.Add(absl::StrCat("\x01\x02\xff", chunk.SerializeAsString()));
  v1::WeightChunk sealed = PlainChunk();
  sealed.clear_data();
  sealed.set_header_crc32c(ExtendCrc32c(0, sealed.SerializeAsString()));
  sealed.set_data(PlainChunk().data());
  folder.Add(absl::StrCat("\x40\x80\xc0", sealed.SerializeAsString()));
  folder.Add(absl::StrCat("\x40\x80\xc0", sealed.SerializeAsString(), sealed.SerializeAsString()));
  // Fields that come again and in another order, as a sender by hand may have them.
  folder.Add(absl::StrCat("abc", PlainChunk().SerializeAsString(), chunk.SerializeAsString()));
  folder.Add(absl::StrCat("abc", v1::WeightChunk().SerializeAsString()));
}

void WriteManifests(const fs::path& root) {
  SeedFolder folder(root, "manifest");
  v1::BeginUpdateRequest request;
  request.set_model("model");
  request.set_version(1);
  (*request.mutable_metadata())["format"] = "pt";
  for (const TensorSpec& spec : VariedSpecs()) {
    v1::TensorSpec& tensor = *request.add_tensors();
    tensor.set_name(spec.name);
    tensor.set_dtype(std::string(DTypeName(spec.dtype)));
    tensor.mutable_shape()->Add(spec.shape.begin(), spec.shape.end());
  }
  folder.Add(absl::StrCat(std::string(1, '\0'), request.SerializeAsString()));
  v1::TensorRanges ranges;
  ranges.set_name("layers.0.weight");
  for (uint64_t i = 0; i < 4; ++i) {
    v1::ByteRange& range = *ranges.add_ranges();
    range.set_begin(i * 300);
    range.set_end(i * 300 + 200 + i * 40);
  }
  folder.Add(absl::StrCat("\1", ranges.SerializeAsString()));
}

void WriteSafetensors(const fs::path& root) {
  SeedFolder folder(root, "safetensors");
  const SafetensorsLayout layout = LayOutSafetensors(VariedSpecs(), {{"format", "pt"}}).value();
  std::string header = EncodeSafetensorsHeader(layout);
  // Without the padding to a page, which would make the input long for nothing.
  const std::string json =
      header.substr(kSafetensorsPrefixBytes, header.find_last_not_of(' ') + 1 - kSafetensorsPrefixBytes);
  folder.Add(json);
  folder.Add(
      R"({"b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]},"a":{"dtype":"I32","shape":[],"data_offsets":[0,4]}} )");
  folder.Add(R"({"__metadata__":{"a":"\u00e9\n"},"w":{"dtype":"F4","shape":[4,0],"data_offsets":[0,0]}})");
  // A hole, and an overlap: no branch of their own tells them from what is right, so that --minimise may drop them.
  folder.Add(
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})");
  folder.Add(
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})");
  const std::string small = R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  folder.Add(absl::StrCat(std::string(1, static_cast<char>(small.size())), std::string(7, '\0'), small, "xy"));
}

void WriteIndexes(const fs::path& root) {
  SeedFolder folder(root, "checkpoint_index");
  CheckpointIndex index;
  index.shards["a.safetensors"] = {"a1", "a2"};
  index.shards["b.safetensors"] = {"b1", "b2"};
  folder.Add(EncodeCheckpointIndex(index, 4));
  index.shards["../outside.safetensors"] = {"outside1", "outside2"};
  folder.Add(EncodeCheckpointIndex(index, 4));
  folder.Add(R"({"weight_map":{},"metadata":{"total_size":1e9,"nested":[[{"weight_map":[null,true,-1]}]]}})");
}

// Steps and their arguments, as call_sequence.cc reads them.
std::string Bytes(std::initializer_list<int> bytes) {
  std::string text;
  for (const int byte : bytes) text.push_back(static_cast<char>(byte));
  return text;
}

int Step(CallStep step) { return static_cast<int>(step); }
int Fault(ChunkFault fault) { return static_cast<int>(fault); }

// Model, version one higher than the last, one of the manifests, a source, no bucket limit, no flags.
std::string BeginNext(int model, int manifest, int source) {
  return Bytes({Step(CallStep::kBegin), model, 1, manifest, source, 0, 0});
}
std::string PushNewest(int chunk_bytes) { return Bytes({Step(CallStep::kPushWhole), 0, chunk_bytes}); }
std::string CommitNewest(int model) { return Bytes({Step(CallStep::kCommit), 0, model}); }
std::string WholeUpdate(int model, int manifest) {
  return absl::StrCat(BeginNext(model, manifest, 0), PushNewest(200), CommitNewest(model));
}

// A version, and then the message to the method with that index.
std::string RawCallOf(int method, absl::string_view message) {
  return absl::StrCat(WholeUpdate(0, 0), Bytes({Step(CallStep::kRaw), method, static_cast<int>(message.size())}),
                      message);
}

int MethodIndex(absl::string_view name) {
  const auto* const found =
      std::find_if(std::begin(kCalledMethods), std::end(kCalledMethods),
                   [name](const CalledMethod& called) { return absl::EndsWith(called.path, name); });
  return static_cast<int>(found - std::begin(kCalledMethods));
}

v1::RegisterTargetsRequest Registration() {
  v1::RegisterTargetsRequest request;
  request.set_model("a");
  v1::DeviceMemory& memory = *request.add_memory();
  memory.set_handle(std::string(64, 'h'));
  memory.set_device_uuid(std::string(16, 'u'));
  memory.set_bytes(200);
  v1::TargetTensor& target = *request.add_tensors();
  target.mutable_spec()->set_name("w");
  target.mutable_spec()->set_dtype("F32");
  target.mutable_spec()->add_shape(4);
  target.mutable_slice()->set_end(2);
  return request;
}

void WriteCalls(const fs::path& root) {
  SeedFolder folder(root, "server");
  const std::string restart = Bytes({Step(CallStep::kRestart)});
  for (int manifest = 0; manifest < 4; ++manifest) folder.Add(WholeUpdate(manifest % 3, manifest));
  // Three versions, of which two are kept; back to the older; read it back.
  folder.Add(absl::StrCat(WholeUpdate(0, 0), WholeUpdate(0, 1), WholeUpdate(0, 2),
                          Bytes({Step(CallStep::kRollback), 0, 4, Step(CallStep::kPull), 0, 0, 10, 1, 0, 1, 2, 6}),
                          Bytes({Step(CallStep::kManifest), 0, 4, Step(CallStep::kDigest), 0, 0, 0}), restart));
  // One chunk with each fault, then the whole, and the commit.
  for (size_t fault = 0; fault < kChunkFaults; ++fault) {
    const int number = static_cast<int>(fault);
    folder.Add(absl::StrCat(BeginNext(0, 1, 1),
                            Bytes({Step(CallStep::kPush), 0, 2, 1, 0, 3, 0, 0, 0, 30, number, 1, 2, 3, 4}),
                            PushNewest(7), CommitNewest(0)));
  }
  // A stream that stays open while its update is superseded, aborted, committed.
  const std::string open =
      Bytes({Step(CallStep::kOpenStream), 0, 0, Step(CallStep::kWriteStream), 0, 0, 0, 4, Fault(ChunkFault::kNone)});
  const std::string write_and_close =
      Bytes({Step(CallStep::kWriteStream), 0, 0, 4, 8, 0, Step(CallStep::kCloseStream), 0, 0});
  folder.Add(
      absl::StrCat(BeginNext(0, 0, 0), open, BeginNext(0, 0, 1), write_and_close, PushNewest(9), CommitNewest(0)));
  folder.Add(
      absl::StrCat(BeginNext(0, 0, 0), open, Bytes({Step(CallStep::kAbort), 0, 0, 3, 'w', 'h', 'y'}), write_and_close));
  folder.Add(absl::StrCat(BeginNext(0, 0, 0), open, PushNewest(9), CommitNewest(0), write_and_close, CommitNewest(0)));
  folder.Add(absl::StrCat(BeginNext(1, 2, 0), open, restart, write_and_close, CommitNewest(1), BeginNext(1, 2, 0)));
  // The highest version of all, in flight, and a manifest of the sender's own.
  folder.Add(
      Bytes({Step(CallStep::kBegin), 0, kFirstSpecialByte, kFirstSpecialByte, 0, 0, 0, 0, Step(CallStep::kWatch), 0}));
  folder.Add(absl::StrCat(
      Bytes({Step(CallStep::kBegin), 0, 1, kFirstSpecialByte, 1, 1, 't', 17, 2, 3, 5, 0, 100, 3, 1, 'k', 1, 'v'}),
      PushNewest(8), CommitNewest(0)));
  // Every method with a message that fits several; and with one that is theirs, of those that share memory.
  for (size_t method = 0; method < std::size(kCalledMethods); ++method) {
    folder.Add(RawCallOf(static_cast<int>(method), Bytes({10, 1, 'a', 16, 1})));
  }
  v1::ExportTargetRequest exported;
  exported.set_model("a");
  exported.set_version(1);
  folder.Add(RawCallOf(MethodIndex("ExportTarget"), exported.SerializeAsString()));
  folder.Add(RawCallOf(MethodIndex("RegisterTargets"), Registration().SerializeAsString()));
  const std::string share = absl::StrCat(
      Bytes({Step(CallStep::kExport), 0, 0}),
      Bytes({Step(CallStep::kRegister), 0, 1, 2, 'h', 'h', 1, 'u', 0, 200, 1, 1, 1, 4, 0, 0, 1, 0, 0, 2, 1}));
  folder.Add(absl::StrCat(WholeUpdate(0, 0), share));
  // Each caller tries all, on a model of which somebody who may has committed a version.
  for (size_t caller = 0; caller < kCallers; ++caller) {
    const std::string become = Bytes({Step(CallStep::kCaller), static_cast<int>(caller)});
    folder.Add(absl::StrCat(WholeUpdate(0, 0), BeginNext(0, 1, 1), become, PushNewest(200), CommitNewest(0),
                            WholeUpdate(0, 2), Bytes({Step(CallStep::kAbort), 0, 0, 0}),
                            Bytes({Step(CallStep::kRollback), 0, 4, Step(CallStep::kPull), 0, 0, 10, 0}),
                            Bytes({Step(CallStep::kManifest), 0, 0, Step(CallStep::kDigest), 0, 0, 0}),
                            Bytes({Step(CallStep::kWatch), 0, Step(CallStep::kState)}), share));
  }
}

}  // namespace
}  // namespace weightstream

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  const std::filesystem::path root = argv[1];
  weightstream::WriteChunks(root);
  weightstream::WriteManifests(root);
  weightstream::WriteSafetensors(root);
  weightstream::WriteIndexes(root);
  weightstream::WriteCalls(root);
  return 0;
}
