// The calls of FakeServer: hooks first, then its state.
#ifndef WEIGHTSTREAM_CLIENT_FAKE_SERVICE_H_
#define WEIGHTSTREAM_CLIENT_FAKE_SERVICE_H_

#include "client/fake_server.h"

namespace weightstream {

class FakeServer::Service final : public v1::WeightStream::Service {
 public:
  explicit Service(FakeServer& server) : server_(server) {}

  grpc::Status BeginUpdate(grpc::ServerContext* context, const v1::BeginUpdateRequest* request,
                           v1::BeginUpdateResponse* response) override;
  grpc::Status Push(grpc::ServerContext* context, grpc::ServerReader<v1::WeightChunk>* reader,
                    v1::PushResponse* response) override;
  grpc::Status CommitUpdate(grpc::ServerContext* context, const v1::CommitUpdateRequest* request,
                            v1::CommitUpdateResponse* response) override;
  grpc::Status AbortUpdate(grpc::ServerContext* context, const v1::AbortUpdateRequest* request,
                           v1::AbortUpdateResponse* response) override;
  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request, v1::Model* response) override;
  grpc::Status GetManifest(grpc::ServerContext* context, const v1::GetManifestRequest* request,
                           v1::Manifest* response) override;
  grpc::Status Pull(grpc::ServerContext* context, const v1::PullRequest* request,
                    grpc::ServerWriter<v1::WeightChunk>* writer) override;
  grpc::Status DigestModel(grpc::ServerContext* context, const v1::DigestModelRequest* request,
                           grpc::ServerWriter<v1::TensorDigest>* writer) override;

 private:
  FakeServer& server_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_FAKE_SERVICE_H_
