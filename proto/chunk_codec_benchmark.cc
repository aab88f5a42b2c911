// Nanoseconds per chunk, to hold against what moving its payload costs: a copy of 2 MiB takes some 200 microseconds.
//
//   bazel run -c opt //proto:chunk_codec_benchmark
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "proto/chunk_codec.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

// gRPC receives some 17 slices a MiB.
constexpr size_t kReceivedSliceBytes = (1 << 20) / 17;

ChunkHeader TypicalHeader() {
  ChunkHeader header;
  header.name = "model.layers.31.self_attn.q_proj.weight";
  header.shape = {4096, 4096};
  header.dtype = "BF16";
  header.offset = 20 << 20;
  header.crc32c = 0x12345678;
  return header;
}

std::vector<grpc::Slice> ReceivedSlices(const std::string& message) {
  std::vector<grpc::Slice> slices;
  for (size_t begin = 0; begin < message.size(); begin += kReceivedSliceBytes) {
    slices.emplace_back(message.data() + begin, std::min(kReceivedSliceBytes, message.size() - begin));
  }
  return slices;
}

std::string Message(size_t data_bytes) {
  const ChunkHeader header = TypicalHeader();
  v1::WeightChunk chunk;
  chunk.set_name(header.name);
  chunk.mutable_shape()->Add(header.shape.begin(), header.shape.end());
  chunk.set_dtype(header.dtype);
  chunk.set_offset(header.offset);
  chunk.set_crc32c(*header.crc32c);
  chunk.set_data(std::string(data_bytes, 'd'));
  return chunk.SerializeAsString();
}

// With a callback, as a sender of memory that changes needs it; the drop of the buffer is part of it.
void BM_Encode(benchmark::State& state) {
  const ChunkHeader header = TypicalHeader();
  const std::string data(static_cast<size_t>(state.range(0)), 'd');
  int64_t released = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(EncodeChunk(header, data, [&released] { ++released; }));
  }
  if (released != static_cast<int64_t>(state.iterations())) state.SkipWithError("released was not called once a chunk");
}
BENCHMARK(BM_Encode)->Arg(4 << 10)->Arg(2 << 20);

void BM_EncodeWithoutCallback(benchmark::State& state) {
  const ChunkHeader header = TypicalHeader();
  const std::string data(static_cast<size_t>(state.range(0)), 'd');
  for (auto _ : state) {
    benchmark::DoNotOptimize(EncodeChunk(header, data, nullptr));
  }
}
BENCHMARK(BM_EncodeWithoutCallback)->Arg(4 << 10)->Arg(2 << 20);

void BM_EncodeGenerated(benchmark::State& state) {
  v1::WeightChunk chunk;
  chunk.ParseFromString(Message(static_cast<size_t>(state.range(0))));
  std::string message;
  for (auto _ : state) {
    chunk.SerializeToString(&message);
    benchmark::DoNotOptimize(message.data());
  }
}
BENCHMARK(BM_EncodeGenerated)->Arg(4 << 10)->Arg(2 << 20);

// The construction of the buffer that Parse consumes is within; BM_MakeReceivedBuffer tells how much of it that is.
void BM_Parse(benchmark::State& state) {
  const std::vector<grpc::Slice> slices = ReceivedSlices(Message(static_cast<size_t>(state.range(0))));
  ReceivedChunk chunk;
  for (auto _ : state) {
    grpc::ByteBuffer buffer(slices.data(), slices.size());
    if (!chunk.Parse(buffer).ok()) state.SkipWithError("Parse failed");
    benchmark::DoNotOptimize(chunk.pieces().data());
  }
  state.counters["pieces"] = static_cast<double>(chunk.pieces().size());
}
BENCHMARK(BM_Parse)->Arg(4 << 10)->Arg(2 << 20);

void BM_MakeReceivedBuffer(benchmark::State& state) {
  const std::vector<grpc::Slice> slices = ReceivedSlices(Message(static_cast<size_t>(state.range(0))));
  for (auto _ : state) {
    benchmark::DoNotOptimize(grpc::ByteBuffer(slices.data(), slices.size()));
  }
}
BENCHMARK(BM_MakeReceivedBuffer)->Arg(4 << 10)->Arg(2 << 20);

void BM_ParseGenerated(benchmark::State& state) {
  const std::string message = Message(static_cast<size_t>(state.range(0)));
  v1::WeightChunk chunk;
  for (auto _ : state) {
    if (!chunk.ParseFromString(message)) state.SkipWithError("ParseFromString failed");
    benchmark::DoNotOptimize(chunk.data().data());
  }
}
BENCHMARK(BM_ParseGenerated)->Arg(4 << 10)->Arg(2 << 20);

}  // namespace
}  // namespace weightstream
