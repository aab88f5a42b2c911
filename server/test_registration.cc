#include "server/test_registration.h"

#include <cstring>
#include <utility>

#include "proto/status.h"

namespace weightstream {

ForeignMemory::ForeignMemory(FakeCudaRuntime& cuda, uint64_t bytes) : bytes_(bytes) {
  const auto [handle, memory] = cuda.AllocateElsewhere(/*device=*/0, bytes);
  handle_.assign(handle.begin(), handle.end());
  memory_ = memory;
  std::memset(memory_, '#', bytes);
}

v1::DeviceMemory ForeignMemory::message() const {
  v1::DeviceMemory message;
  message.set_handle(handle_);
  message.set_device_uuid(std::string(16, '\xA0'));
  message.set_bytes(bytes_);
  return message;
}

v1::TargetTensor TargetOf(const std::string& name, const std::string& dtype, const std::vector<uint64_t>& shape,
                          uint64_t offset) {
  v1::TargetTensor target;
  target.mutable_spec()->set_name(name);
  target.mutable_spec()->set_dtype(dtype);
  target.mutable_spec()->mutable_shape()->Add(shape.begin(), shape.end());
  target.set_offset(offset);
  return target;
}

v1::TargetTensor SlicedTargetOf(v1::TargetTensor target, uint32_t dimension, uint64_t begin, uint64_t end) {
  target.mutable_slice()->set_dimension(dimension);
  target.mutable_slice()->set_begin(begin);
  target.mutable_slice()->set_end(end);
  return target;
}

v1::RegisterTargetsRequest RegistrationOf(const std::string& model, const ForeignMemory& memory,
                                          const std::vector<v1::TargetTensor>& tensors) {
  v1::RegisterTargetsRequest request;
  request.set_model(model);
  *request.add_memory() = memory.message();
  request.mutable_tensors()->Add(tensors.begin(), tensors.end());
  return request;
}

Registration::Registration(TestClient& client, const v1::RegisterTargetsRequest& request)
    : reader_(client.stub().RegisterTargets(context_.get(), request)) {
  taken_ = reader_->Read(&first_);
}

v1::TargetsState Registration::Next() {
  v1::TargetsState state;
  static_cast<void>(reader_->Read(&state));
  return state;
}

absl::Status Registration::End() {
  context_->TryCancel();
  return AwaitEnd();
}

absl::Status Registration::AwaitEnd() {
  if (std::exchange(ended_, true)) return absl::OkStatus();
  v1::TargetsState state;
  while (reader_->Read(&state)) {
  }
  return FromGrpcStatus(reader_->Finish());
}

}  // namespace weightstream
