// A process that holds a lease of device memory until it is killed, as an inference server would: for tests.
//
//   lease_holder export ADDRESS MODEL                        prints "held", then waits
//   lease_holder register ADDRESS MODEL HANDLE UUID BYTES    the same, with the U8 tensor "t" of so many bytes at the
//                                                            start of the allocation; HANDLE and UUID are hexadecimal
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "weightstream/v1/weightstream.grpc.pb.h"

namespace weightstream {
namespace {

template <typename Reader, typename Message>
int Hold(Reader& reader, Message& message) {
  if (reader.Read(&message)) {
    std::puts("held");
    std::fflush(stdout);
  }
  while (reader.Read(&message)) {
  }
  const grpc::Status ended = reader.Finish();
  std::printf("%d %s\n", ended.error_code(), ended.error_message().c_str());
  return 1;
}

int Export(v1::WeightStream::Stub& stub, const std::string& model) {
  grpc::ClientContext context;
  v1::ExportTargetRequest request;
  request.set_model(model);
  v1::ExportedTarget message;
  return Hold(*stub.ExportTarget(&context, request), message);
}

int Register(v1::WeightStream::Stub& stub, const std::string& model, const std::string& handle, const std::string& uuid,
             uint64_t bytes) {
  grpc::ClientContext context;
  v1::RegisterTargetsRequest request;
  request.set_model(model);
  v1::DeviceMemory& memory = *request.add_memory();
  memory.set_handle(absl::HexStringToBytes(handle));
  memory.set_device_uuid(absl::HexStringToBytes(uuid));
  memory.set_bytes(bytes);
  v1::TensorSpec& spec = *request.add_tensors()->mutable_spec();
  spec.set_name("t");
  spec.set_dtype("U8");
  spec.add_shape(bytes);
  v1::TargetsState message;
  return Hold(*stub.RegisterTargets(&context, request), message);
}

int Run(const std::vector<std::string>& words) {
  const auto stub = v1::WeightStream::NewStub(grpc::CreateChannel(words[1], grpc::InsecureChannelCredentials()));
  if (words[0] == "export" && words.size() == 3) return Export(*stub, words[2]);
  if (words[0] == "register" && words.size() == 6) {
    return Register(*stub, words[2], words[3], words[4], std::stoull(words[5]));
  }
  return 2;
}

}  // namespace
}  // namespace weightstream

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  return weightstream::Run(std::vector<std::string>(argv + 1, argv + argc));
}
