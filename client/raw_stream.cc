#include "client/raw_stream.h"

#include <grpcpp/impl/client_unary_call.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/proto_buffer_writer.h>

#include "weightstream/v1/weightstream.grpc.pb.h"

namespace weightstream {
namespace {

constexpr char kBeginMethod[] = "/weightstream.v1.WeightStream/BeginUpdate";
constexpr char kPushMethod[] = "/weightstream.v1.WeightStream/Push";
constexpr char kPullMethod[] = "/weightstream.v1.WeightStream/Pull";

}  // namespace

std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>> OpenRawPush(grpc::Channel& channel, grpc::ClientContext& context,
                                                                  v1::PushResponse& response) {
  const grpc::internal::RpcMethod method(kPushMethod, grpc::internal::RpcMethod::CLIENT_STREAMING);
  return std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>>(
      grpc::internal::ClientWriterFactory<grpc::ByteBuffer>::Create(&channel, method, &context, &response));
}

std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> OpenRawPull(grpc::Channel& channel, grpc::ClientContext& context,
                                                                  const v1::PullRequest& request) {
  const grpc::internal::RpcMethod method(kPullMethod, grpc::internal::RpcMethod::SERVER_STREAMING);
  return std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>>(
      grpc::internal::ClientReaderFactory<grpc::ByteBuffer>::Create(&channel, method, &context, request));
}

grpc::Status CallRawBegin(grpc::Channel& channel, grpc::ClientContext& context, const grpc::ByteBuffer& request,
                          v1::BeginUpdateResponse& response) {
  const grpc::internal::RpcMethod method(kBeginMethod, grpc::internal::RpcMethod::NORMAL_RPC);
  return grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, v1::BeginUpdateResponse, grpc::ByteBuffer,
                                           google::protobuf::MessageLite>(&channel, method, &context, request,
                                                                          &response);
}

}  // namespace weightstream
