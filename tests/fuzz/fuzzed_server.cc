#include "tests/fuzz/fuzzed_server.h"

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/host_device.h"
#include "proto/status.h"
#include "server/log.h"
#include "tensor/text.h"
#include "tests/fuzz/fuzz_check.h"

namespace weightstream {
namespace {

// Far more than any of these calls takes, on a busy machine and under sanitizers too.
constexpr std::chrono::seconds kCallDeadline(60);
// What gRPC takes as a status' message, less what it adds itself.
constexpr size_t kMaxMessageBytes = 4096;

Limits FuzzLimits() {
  Limits limits;
  limits.bucket_bytes = kFuzzBucketBytes;
  limits.model_bytes = kFuzzModelBytes;
  limits.keep_versions = kFuzzKeepVersions;
  limits.manifest_tensors = 100;
  // What a call waits for here it waits for in vain.
  limits.operation_wait = absl::Seconds(10);
  return limits;
}

grpc::ByteBuffer BufferOf(absl::string_view bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return grpc::ByteBuffer(&slice, 1);
}

void AppendBytes(const grpc::ByteBuffer& message, std::string* bytes) {
  std::vector<grpc::Slice> slices;
  Require(message.Dump(&slices).ok(), "what was received can be read");
  for (const grpc::Slice& slice : slices) bytes->append(reinterpret_cast<const char*>(slice.begin()), slice.size());
}

}  // namespace

FuzzedServer::FuzzedServer() {
  // Thousands of lines a second, and protobuf's on each text that is not UTF-8, say nothing that a broken promise does
  // not.
  static const absl::Status quiet = StartLogging("error", LogFormat::kText);
  Require(quiet.ok(), "logging starts", quiet.ToString());
  static const auto silence = google::protobuf::SetLogHandler(nullptr);
  static_cast<void>(silence);
  Start();
}

void FuzzedServer::Start() {
  ServerOptions options;
  options.listen = absl::StrCat("unix:", (folder_.path() / "socket").string());
  options.data_dir = data_dir();
  options.limits = FuzzLimits();
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options, NewHostDevice());
  Require(server.ok(), "the server starts on what it left behind", server.status().ToString());
  server_ = *std::move(server);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), arguments);
  stub_ = v1::WeightStream::NewStub(channel_);
}

void FuzzedServer::Restart() {
  stub_.reset();
  channel_.reset();
  server_.reset();
  Start();
}

std::unique_ptr<grpc::ClientContext> NewFuzzContext() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + kCallDeadline);
  return context;
}

absl::Status CheckedStatus(const grpc::Status& status, absl::string_view what) {
  const std::string report = absl::StrCat(what, ": ", FromGrpcStatus(status).ToString());
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::DATA_LOSS:
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::ABORTED:
      break;
    default:
      Require(false, "a call ends with a status that the service documents", report);
  }
  Require(status.ok() == status.error_message().empty(), "an error has a message, and success none", report);
  Require(status.error_message().size() <= kMaxMessageBytes, "a message has a readable length", report);
  Require(IsValidUtf8(status.error_message()), "a message is UTF-8", report);
  return FromGrpcStatus(status);
}

FuzzedPush::FuzzedPush(FuzzedServer& server) : channel_(server.channel()), context_(NewFuzzContext()) {
  static const char* const kMethod = "/weightstream.v1.WeightStream/Push";
  const grpc::internal::RpcMethod method(kMethod, grpc::internal::RpcMethod::CLIENT_STREAMING, channel_);
  writer_.reset(grpc::internal::ClientWriterFactory<grpc::ByteBuffer>::Create(channel_.get(), method, context_.get(),
                                                                              &response_));
}

FuzzedPush::~FuzzedPush() {
  if (writer_ == nullptr) return;
  context_->TryCancel();
  static_cast<void>(writer_->Finish());
}

bool FuzzedPush::Write(absl::string_view message) { return writer_->Write(BufferOf(message)); }

absl::Status FuzzedPush::Finish() {
  writer_->WritesDone();
  const grpc::Status status = writer_->Finish();
  writer_.reset();
  return CheckedStatus(status, "Push");
}

grpc::Status RawCall(FuzzedServer& server, const std::string& method, absl::string_view request, std::string* answer) {
  using Stream = grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;
  using Factory = grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>;
  const bool has_end = !absl::EndsWith(method, "/Watch") && !absl::EndsWith(method, "/WatchModel");
  // On the wire every kind of call looks like a stream both ways.
  const std::shared_ptr<grpc::Channel> channel = server.channel();
  const grpc::internal::RpcMethod rpc(method.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING, channel);
  const auto context = NewFuzzContext();
  const std::unique_ptr<Stream> stream(Factory::Create(channel.get(), rpc, context.get()));
  stream->Write(BufferOf(request));
  stream->WritesDone();
  for (grpc::ByteBuffer message; stream->Read(&message);) {
    AppendBytes(message, answer);
    if (!has_end) context->TryCancel();
  }
  grpc::Status status = stream->Finish();
  const grpc::StatusCode code = status.error_code();
  Require(code != grpc::StatusCode::DEADLINE_EXCEEDED && code != grpc::StatusCode::UNAVAILABLE &&
              code != grpc::StatusCode::UNKNOWN,
          "whatever bytes a call brings, the server answers", absl::StrCat(method, ": ", status.error_message()));
  return status;
}

}  // namespace weightstream
