// An inference server's side of RegisterTargets: memory of "another process" of the fake CUDA runtime, and the call
// that lends it.
#ifndef WEIGHTSTREAM_SERVER_TEST_REGISTRATION_H_
#define WEIGHTSTREAM_SERVER_TEST_REGISTRATION_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/cuda/fake_runtime.h"
#include "server/test_client.h"

namespace weightstream {

// Filled with '#', so that a byte that nobody was to write shows.
class ForeignMemory {
 public:
  ForeignMemory(FakeCudaRuntime& cuda, uint64_t bytes);

  // All of it, as an inference server names it.
  v1::DeviceMemory message() const;
  // Its owner writes to all of it.
  void Fill(char byte) { std::memset(memory_, byte, bytes_); }
  // Its owner changes one bit.
  void Flip(uint64_t offset) { memory_[offset] ^= 1; }
  std::string Bytes(uint64_t offset, uint64_t bytes) const { return std::string(memory_ + offset, bytes); }

 private:
  const uint64_t bytes_;
  std::string handle_;
  char* memory_ = nullptr;
};

// A tensor's target at this offset of memory 0.
v1::TargetTensor TargetOf(const std::string& name, const std::string& dtype, const std::vector<uint64_t>& shape,
                          uint64_t offset = 0);
v1::TargetTensor SlicedTargetOf(v1::TargetTensor target, uint32_t dimension, uint64_t begin, uint64_t end);

v1::RegisterTargetsRequest RegistrationOf(const std::string& model, const ForeignMemory& memory,
                                          const std::vector<v1::TargetTensor>& tensors);

// A registration, for as long as this object lives, at most the half minute of its deadline.
class Registration {
 public:
  Registration(TestClient& client, const v1::RegisterTargetsRequest& request);
  // Unregisters.
  ~Registration() { static_cast<void>(End()); }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

  // The first state was told: the targets are taken.
  bool taken() const { return taken_; }
  const v1::TargetsState& first() const { return first_; }
  // The next state that the server tells.
  v1::TargetsState Next();
  // Unregisters; or, if the server ended it, why.
  absl::Status End();
  // Waits for the server to end it.
  absl::Status AwaitEnd();

 private:
  const std::unique_ptr<grpc::ClientContext> context_ = NewContext();
  std::unique_ptr<grpc::ClientReader<v1::TargetsState>> reader_;
  v1::TargetsState first_;
  bool taken_ = false;
  bool ended_ = false;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TEST_REGISTRATION_H_
