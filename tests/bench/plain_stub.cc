// The floor: the service and the client that anyone would write from generated stubs. Protobuf `bytes` on both sides,
// one copy into the message at the sender, one out of it into place at the receiver, default settings, default
// allocator, no checksum.
//
//   plain_stub receive --place_mib=1024                          prints its address, serves until its stdin closes
//   plain_stub send HOST:PORT --total_mib=4096 --connections=2   one round; prints a report
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "tests/bench/receiving.h"
#include "tests/bench/sending.h"
#include "weightstream/v1/weightstream.grpc.pb.h"

ABSL_FLAG(uint64_t, chunk_kib, 2048, "KiB of data in one message.");

namespace {

namespace v1 = weightstream::v1;
using weightstream::bench::Share;

class PlainService final : public v1::WeightStream::Service {
 public:
  explicit PlainService(absl::Span<char> place) : place_(place) {}

  grpc::Status Push(grpc::ServerContext* context, grpc::ServerReader<v1::WeightChunk>* reader,
                    v1::PushResponse* response) override {
    v1::WeightChunk chunk;
    uint64_t total = 0;
    while (reader->Read(&chunk)) {
      Place(chunk.offset(), chunk.data());
      total += chunk.data().size();
    }
    response->set_bytes(total);
    return grpc::Status::OK;
  }

 private:
  // The destination is used again from its start where the data are larger.
  void Place(uint64_t at, absl::string_view data) {
    while (!data.empty()) {
      const uint64_t offset = at % place_.size();
      const uint64_t part = std::min<uint64_t>(data.size(), place_.size() - offset);
      std::memcpy(place_.data() + offset, data.data(), part);
      data.remove_prefix(part);
      at += part;
    }
  }

  const absl::Span<char> place_;
};

int Receive() {
  const absl::StatusOr<absl::Span<char>> place = weightstream::bench::MapPlace();
  if (!place.ok()) {
    std::fprintf(stderr, "plain_stub: %s\n", place.status().ToString().c_str());
    return 1;
  }
  PlainService service(*place);
  grpc::ServerBuilder builder;
  int port = 0;
  const std::string listen = absl::GetFlag(FLAGS_listen);
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    std::fprintf(stderr, "plain_stub: cannot listen on %s\n", listen.c_str());
    return 1;
  }
  weightstream::bench::ServeAt(absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port));
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}

absl::Status SendShare(const std::string& address, const Share& share, uint64_t step) {
  grpc::ChannelArguments arguments;
  // Without it equal channels share one connection.
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
  chunk.add_shape(share.bytes.size());
  for (uint64_t at = 0; at < share.bytes.size(); at += step) {
    const absl::string_view part = share.bytes.substr(at, step);
    chunk.set_offset(share.begin + at);
    chunk.set_data(part.data(), part.size());
    if (!writer->Write(chunk)) break;
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (!status.ok()) return absl::UnavailableError(status.error_message());
  if (response.bytes() != share.bytes.size()) return absl::DataLossError("the receiver got fewer bytes than were sent");
  return absl::OkStatus();
}

int Send(const std::string& address) {
  const uint64_t step = absl::GetFlag(FLAGS_chunk_kib) << 10;
  return weightstream::bench::RunSender("plain_stub",
                                        [&](const Share& share) { return SendShare(address, share, step); });
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() == 2 && std::string(arguments[1]) == "receive") return Receive();
  if (arguments.size() == 3 && std::string(arguments[1]) == "send") return Send(arguments[2]);
  std::fprintf(stderr, "usage: plain_stub receive | plain_stub send HOST:PORT\n");
  return 2;
}
