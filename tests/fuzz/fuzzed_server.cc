#include "tests/fuzz/fuzzed_server.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <fstream>
#include <iterator>
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
// Of each caller that has one, in the order of Caller.
constexpr absl::string_view kTokens[] = {"admin-0123456789abcdef", "pusher-0123456789abcdef", "reader-0123456789abcdef",
                                         "stranger-0123456789abcdef"};
constexpr absl::string_view kRules[] = {"admin * token:", "push * token:", "read * token:"};

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

// Nobody gets what they may not have, and nobody is refused what they may.
void CheckAccess(grpc::StatusCode code, Caller caller, absl::string_view method, absl::string_view report) {
  if (!MayCall(caller, method)) {
    Require(code != grpc::StatusCode::OK, "a call ends well only for who may make it", report);
    return;
  }
  Require(code != grpc::StatusCode::UNAUTHENTICATED && code != grpc::StatusCode::PERMISSION_DENIED,
          "who may make a call is not refused", report);
}

}  // namespace

FuzzedServer::FuzzedServer() {
  // Thousands of lines a second, and protobuf's on each text that is not UTF-8, say nothing that a broken promise does
  // not.
  static const absl::Status quiet = StartLogging("error", LogFormat::kText);
  Require(quiet.ok(), "logging starts", quiet.ToString());
  static const auto silence = google::protobuf::SetLogHandler(nullptr);
  static_cast<void>(silence);
  // gRPC stays for as long as the process: to take it down between two servers may wait ten seconds for a poller of its
  // own.
  static const bool stays = [] {
    grpc_init();
    return true;
  }();
  static_cast<void>(stays);
  std::ofstream rules(folder_.path() / "tokens");
  for (size_t i = 0; i < std::size(kRules); ++i) rules << kRules[i] << kTokens[i] << '\n';
  rules.close();
  Require(rules.good(), "the file of tokens is written");
  Start();
}

void FuzzedServer::Start() {
  ServerOptions options;
  options.listen = absl::StrCat("unix:", (folder_.path() / "socket").string());
  options.data_dir = data_dir();
  options.limits = FuzzLimits();
  options.security.auth_token_file = (folder_.path() / "tokens").string();
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

std::unique_ptr<grpc::ClientContext> FuzzedServer::NewContext() const {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + kCallDeadline);
  if (const auto caller = static_cast<size_t>(caller_); caller < std::size(kTokens)) {
    context->AddMetadata("authorization", absl::StrCat("Bearer ", kTokens[caller]));
  }
  return context;
}

absl::Status FuzzedServer::Checked(const grpc::Status& status, absl::string_view method) const {
  return CheckedStatus(status, caller_, method);
}

absl::Status CheckedStatus(const grpc::Status& status, Caller caller, absl::string_view method) {
  const std::string report =
      absl::StrCat("caller ", static_cast<int>(caller), ", ", method, ": ", FromGrpcStatus(status).ToString());
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::DATA_LOSS:
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
      break;
    case grpc::StatusCode::UNIMPLEMENTED:
      // The host's memory is in files: there is nothing to share.
      Require(method == "ExportTarget" || method == "RegisterTargets", "the server knows its methods", report);
      break;
    default:
      Require(false, "a call ends with a status that the service documents", report);
  }
  CheckAccess(status.error_code(), caller, method, report);
  Require(status.ok() == status.error_message().empty(), "an error has a message, and success none", report);
  Require(status.error_message().size() <= kMaxMessageBytes, "a message has a readable length", report);
  Require(IsValidUtf8(status.error_message()), "a message is UTF-8", report);
  return FromGrpcStatus(status);
}

FuzzedPush::FuzzedPush(FuzzedServer& server)
    : channel_(server.channel()), caller_(server.caller()), context_(server.NewContext()) {
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
  return CheckedStatus(status, caller_, "Push");
}

grpc::Status RawCall(FuzzedServer& server, const std::string& method, absl::string_view request, std::string* answer) {
  using Stream = grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;
  using Factory = grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>;
  const bool has_end = !absl::EndsWith(method, "/Watch") && !absl::EndsWith(method, "/WatchModel");
  // On the wire every kind of call looks like a stream both ways.
  const std::shared_ptr<grpc::Channel> channel = server.channel();
  const grpc::internal::RpcMethod rpc(method.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING, channel);
  const auto context = server.NewContext();
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
  CheckAccess(code, server.caller(), method, absl::StrCat(method, ": ", status.error_message()));
  return status;
}

}  // namespace weightstream
