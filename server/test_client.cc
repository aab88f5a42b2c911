#include "server/test_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/sync_stream.h>

#include <chrono>
#include <utility>

#include "grpc/health/v1/health.grpc.pb.h"
#include "kernels/checksum.h"
#include "proto/convert.h"
#include "proto/status.h"
#include "server/test_update.h"

namespace weightstream {
namespace {

std::shared_ptr<grpc::Channel> Connect(const std::string& address,
                                       const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

template <typename Message>
absl::StatusOr<std::vector<Message>> ReadAll(grpc::ClientReader<Message>& reader) {
  std::vector<Message> messages;
  for (Message message; reader.Read(&message);) messages.push_back(message);
  const absl::Status status = FromGrpcStatus(reader.Finish());
  if (!status.ok()) return status;
  return messages;
}

template <typename Response>
absl::StatusOr<Response> ResponseOr(const grpc::Status& status, Response response) {
  if (!status.ok()) return FromGrpcStatus(status);
  return response;
}

std::string BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  static_cast<void>(buffer.Dump(&slices));
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

}  // namespace

TestTensor MakeTensor(absl::string_view name, DType dtype, std::vector<uint64_t> shape, uint64_t seed) {
  TestTensor tensor;
  tensor.spec = {std::string(name), dtype, std::move(shape)};
  tensor.data = PatternBytes(seed, TensorByteSize(tensor.spec).value());
  return tensor;
}

std::vector<TestTensor> VariedTensors(uint64_t seed) {
  return {MakeTensor("embed/../weight", DType::kBF16, {64, 33}, seed),
          MakeTensor("bias", DType::kF32, {7}, seed + 1),
          MakeTensor("scale", DType::kF64, {}, seed + 2),
          MakeTensor("nothing", DType::kF32, {3, 0}, seed + 3),
          MakeTensor("mask", DType::kBool, {13}, seed + 4),
          MakeTensor("packed", DType::kF4, {10}, seed + 5),
          MakeTensor("\xc3\xbcml\xc3\xa4ut", DType::kU8, {1000}, seed + 6)};
}

v1::BeginUpdateRequest BeginRequest(const std::string& model, uint64_t version,
                                    const std::vector<TestTensor>& tensors) {
  v1::BeginUpdateRequest request;
  request.set_model(model);
  request.set_version(version);
  for (const TestTensor& tensor : tensors) *request.add_tensors() = ToProto(tensor.spec);
  return request;
}

v1::WeightChunk ChunkOf(const TestTensor& tensor, uint64_t offset, uint64_t bytes, const std::string& update_id) {
  v1::WeightChunk chunk;
  chunk.set_name(tensor.spec.name);
  for (const uint64_t dimension : tensor.spec.shape) chunk.add_shape(dimension);
  chunk.set_dtype(std::string(DTypeName(tensor.spec.dtype)));
  chunk.set_offset(offset);
  chunk.set_data(tensor.data.substr(offset, bytes));
  chunk.set_crc32c(ExtendCrc32c(0, chunk.data()));
  chunk.set_update_id(update_id);
  return chunk;
}

std::vector<v1::WeightChunk> ChunksOf(const std::vector<TestTensor>& tensors, uint64_t bucket_bytes,
                                      const std::string& update_id) {
  std::vector<v1::WeightChunk> chunks;
  for (const TestTensor& tensor : tensors) {
    for (uint64_t at = 0; at < tensor.data.size(); at += bucket_bytes) {
      chunks.push_back(ChunkOf(tensor, at, bucket_bytes, update_id));
    }
  }
  return chunks;
}

std::unique_ptr<grpc::ClientContext> NewContext() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  return context;
}

TestClient::TestClient(const std::string& address, std::string token,
                       const std::shared_ptr<grpc::ChannelCredentials>& credentials)
    : token_(std::move(token)), channel_(Connect(address, credentials)), stub_(v1::WeightStream::NewStub(channel_)) {}

std::unique_ptr<grpc::ClientContext> TestClient::Context() const {
  std::unique_ptr<grpc::ClientContext> context = NewContext();
  if (!token_.empty()) context->AddMetadata("authorization", "Bearer " + token_);
  return context;
}

absl::StatusOr<v1::BeginUpdateResponse> TestClient::Begin(const v1::BeginUpdateRequest& request) {
  v1::BeginUpdateResponse response;
  const grpc::Status status = stub_->BeginUpdate(Context().get(), request, &response);
  return ResponseOr(status, std::move(response));
}

absl::StatusOr<v1::PushResponse> TestClient::Push(const std::vector<v1::WeightChunk>& chunks) {
  const auto context = Context();
  v1::PushResponse response;
  const auto writer = stub_->Push(context.get(), &response);
  for (const v1::WeightChunk& chunk : chunks) {
    if (!writer->Write(chunk)) break;
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  return ResponseOr(status, std::move(response));
}

absl::StatusOr<v1::CommitUpdateResponse> TestClient::Commit(const std::string& model, const std::string& update_id) {
  v1::CommitUpdateRequest request;
  request.set_model(model);
  request.set_update_id(update_id);
  v1::CommitUpdateResponse response;
  const grpc::Status status = stub_->CommitUpdate(Context().get(), request, &response);
  return ResponseOr(status, std::move(response));
}

absl::Status TestClient::Abort(const std::string& model, const std::string& update_id, const std::string& reason) {
  v1::AbortUpdateRequest request;
  request.set_model(model);
  request.set_update_id(update_id);
  request.set_reason(reason);
  v1::AbortUpdateResponse response;
  return FromGrpcStatus(stub_->AbortUpdate(Context().get(), request, &response));
}

absl::StatusOr<v1::Model> TestClient::GetModel(const std::string& model) {
  v1::GetModelRequest request;
  request.set_model(model);
  v1::Model response;
  const grpc::Status status = stub_->GetModel(Context().get(), request, &response);
  return ResponseOr(status, std::move(response));
}

absl::StatusOr<v1::RollbackModelResponse> TestClient::Rollback(const std::string& model, uint64_t version) {
  v1::RollbackModelRequest request;
  request.set_model(model);
  request.set_version(version);
  v1::RollbackModelResponse response;
  const grpc::Status status = stub_->RollbackModel(Context().get(), request, &response);
  return ResponseOr(status, std::move(response));
}

absl::StatusOr<std::vector<v1::WeightChunk>> TestClient::Pull(const v1::PullRequest& request) {
  const auto context = Context();
  return ReadAll(*stub_->Pull(context.get(), request));
}

absl::StatusOr<std::vector<v1::TensorDigest>> TestClient::Digest(const v1::DigestModelRequest& request) {
  const auto context = Context();
  return ReadAll(*stub_->DigestModel(context.get(), request));
}

absl::Status TestClient::PushVersion(const std::string& model, uint64_t version,
                                     const std::vector<TestTensor>& tensors) {
  const auto begun = Begin(BeginRequest(model, version, tensors));
  if (!begun.ok()) return begun.status();
  const auto chunks = ChunksOf(tensors, begun->bucket_limit_bytes(), begun->update_id());
  if (!chunks.empty()) {
    if (const auto pushed = Push(chunks); !pushed.ok()) return pushed.status();
  }
  return Commit(model, begun->update_id()).status();
}

absl::StatusOr<std::map<std::string, std::string>> TestClient::PullTensors(const std::string& model, uint64_t version) {
  v1::PullRequest request;
  request.set_model(model);
  request.set_version(version);
  const auto chunks = Pull(request);
  if (!chunks.ok()) return chunks.status();
  std::map<std::string, std::string> tensors;
  for (const v1::WeightChunk& chunk : *chunks) {
    std::string& data = tensors[chunk.name()];
    if (chunk.offset() != data.size()) return absl::InternalError("a chunk out of order");
    if (chunk.crc32c() != ExtendCrc32c(0, chunk.data())) return absl::DataLossError("a wrong checksum");
    data += chunk.data();
  }
  return tensors;
}

absl::StatusOr<std::string> TestClient::RawCall(const std::string& method, const std::string& request) {
  using Stream = grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;
  using Factory = grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>;
  // On the wire every kind of call looks like a stream both ways.
  const grpc::internal::RpcMethod rpc(method.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
  const auto context = Context();
  const std::unique_ptr<Stream> stream(Factory::Create(channel_.get(), rpc, context.get()));
  const grpc::Slice slice(request);
  stream->Write(grpc::ByteBuffer(&slice, 1));
  stream->WritesDone();
  std::string received;
  for (grpc::ByteBuffer message; stream->Read(&message);) received += BytesOf(message);
  return ResponseOr(stream->Finish(), std::move(received));
}

absl::StatusOr<bool> TestClient::Serving(const std::string& service) {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  const auto stub = grpc::health::v1::Health::NewStub(channel_);
  const grpc::Status status = stub->Check(Context().get(), request, &response);
  if (!status.ok()) return FromGrpcStatus(status);
  if (response.status() == grpc::health::v1::HealthCheckResponse::SERVING) return true;
  if (response.status() == grpc::health::v1::HealthCheckResponse::NOT_SERVING) return false;
  return absl::InternalError("the answer is neither SERVING nor NOT_SERVING");
}

std::unique_ptr<v1::WeightStream::Stub> SlowReaderStub(const std::string& address) {
  grpc::ChannelArguments small_window;
  small_window.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  small_window.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::WeightStream::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), small_window));
}

std::map<std::string, std::string> DataOf(const std::vector<TestTensor>& tensors) {
  std::map<std::string, std::string> data;
  for (const TestTensor& tensor : tensors) data[tensor.spec.name] = tensor.data;
  return data;
}

}  // namespace weightstream
