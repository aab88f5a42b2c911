// The floor: the service and the client that anyone would write from generated stubs. Protobuf `bytes` on both sides,
// one copy into the message at the sender, one out of it into place at the receiver, default settings, default
// allocator, no checksum.
//
//   plain_stub serve --place-mib=1024                          prints its address, serves until its stdin closes
//   plain_stub send ADDRESS --total-mib=4096 --connections=2   one round; prints a report
#include <grpcpp/grpcpp.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "tests/bench/cycled_buffer.h"
#include "tests/bench/round_report.h"
#include "weightstream/v1/weightstream.grpc.pb.h"

ABSL_FLAG(uint64_t, place_mib, 1024, "MiB of the receiver's destination.");
ABSL_FLAG(uint64_t, total_mib, 4096, "MiB to send.");
ABSL_FLAG(uint64_t, period_mib, 1024, "MiB of distinct bytes.");
ABSL_FLAG(uint64_t, chunk_kib, 2048, "KiB of data in one message.");
ABSL_FLAG(int, connections, 2, "Channels, each with a connection and a stream of its own.");

namespace {

namespace v1 = weightstream::v1;

class PlainService final : public v1::WeightStream::Service {
 public:
  PlainService(char* place, uint64_t bytes) : place_(place), bytes_(bytes) {}

  grpc::Status Push(grpc::ServerContext* context, grpc::ServerReader<v1::WeightChunk>* reader,
                    v1::PushResponse* response) override {
    v1::WeightChunk chunk;
    uint64_t total = 0;
    while (reader->Read(&chunk)) {
      const uint64_t offset = chunk.offset() % bytes_;
      const uint64_t size = std::min<uint64_t>(chunk.data().size(), bytes_ - offset);
      std::memcpy(place_ + offset, chunk.data().data(), size);
      total += chunk.data().size();
    }
    response->set_bytes(total);
    return grpc::Status::OK;
  }

 private:
  char* const place_;
  const uint64_t bytes_;
};

int Serve() {
  const uint64_t bytes = absl::GetFlag(FLAGS_place_mib) << 20;
  void* const place = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (place == MAP_FAILED) return 1;
  PlainService service(static_cast<char*>(place), bytes);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  std::printf("listening on 127.0.0.1:%d\n", port);
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}

bool SendPart(const std::string& address, absl::string_view bytes, uint64_t begin, uint64_t step) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxSendMessageSize(-1);
  const auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  const auto stub = v1::WeightStream::NewStub(channel);
  grpc::ClientContext context;
  v1::PushResponse response;
  const auto writer = stub->Push(&context, &response);
  v1::WeightChunk chunk;
  chunk.set_name("model.layers.0.weight");
  chunk.set_dtype("U8");
  chunk.add_shape(bytes.size());
  for (uint64_t at = 0; at < bytes.size(); at += step) {
    const absl::string_view part = bytes.substr(at, step);
    chunk.set_offset(begin + at);
    chunk.set_data(part.data(), part.size());
    if (!writer->Write(chunk)) break;
  }
  writer->WritesDone();
  return writer->Finish().ok() && response.bytes() == bytes.size();
}

int Send(const std::string& address) {
  const uint64_t total = absl::GetFlag(FLAGS_total_mib) << 20;
  auto source = weightstream::bench::CycledBuffer::Create(total, absl::GetFlag(FLAGS_period_mib) << 20);
  if (!source.ok()) return 1;
  const uint64_t connections = static_cast<uint64_t>(absl::GetFlag(FLAGS_connections));
  const uint64_t share = total / connections;
  std::atomic<bool> good{true};
  const weightstream::bench::RoundReport report;
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < connections; ++i) {
    const uint64_t begin = i * share;
    const uint64_t bytes = i + 1 == connections ? total - begin : share;
    threads.emplace_back([&, begin, bytes] {
      if (!SendPart(address, (*source)->bytes().substr(begin, bytes), begin, absl::GetFlag(FLAGS_chunk_kib) << 10))
        good = false;
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (good) report.Print(total);
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() == 2 && std::string(arguments[1]) == "serve") return Serve();
  if (arguments.size() == 3 && std::string(arguments[1]) == "send") return Send(arguments[2]);
  std::fprintf(stderr, "usage: plain_stub serve | plain_stub send ADDRESS\n");
  return 2;
}
