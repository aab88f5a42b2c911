#include "client/fake_service.h"

#include <algorithm>
#include <vector>

#include "kernels/checksum.h"
#include "proto/convert.h"
#include "proto/status.h"

namespace weightstream {
namespace {

constexpr uint64_t kDigestBlockBytes = 64 << 10;

// What of tensor `spec` a Pull asks for.
ByteRanges RequestedRanges(const v1::PullRequest& request, const std::string& name, uint64_t bytes) {
  if (request.parts().empty()) return {{0, bytes}};
  for (const v1::TensorRanges& part : request.parts()) {
    if (part.name() == name) return part.ranges().empty() ? ByteRanges{{0, bytes}} : FromProto(part).value();
  }
  return {};
}

}  // namespace

grpc::Status FakeServer::Service::BeginUpdate(grpc::ServerContext* context, const v1::BeginUpdateRequest* request,
                                              v1::BeginUpdateResponse* response) {
  v1::BeginUpdateRequest copy = *request;
  absl::Status status;
  if (server_.hooks_.on_begin) status = server_.hooks_.on_begin(*context, copy);
  if (status.ok()) status = server_.Begin(copy, *response);
  if (status.ok() && server_.hooks_.on_begun) server_.hooks_.on_begun(*response);
  return ToGrpcStatus(status);
}

grpc::Status FakeServer::Service::Push(grpc::ServerContext* context, grpc::ServerReader<v1::WeightChunk>* reader,
                                       v1::PushResponse* response) {
  {
    absl::MutexLock lock(&server_.mutex_);
    server_.stream_peers_.push_back(context->peer());
  }
  std::string update_id;
  v1::WeightChunk chunk;
  while (reader->Read(&chunk)) {
    int number = 0;
    {
      absl::MutexLock lock(&server_.mutex_);
      number = server_.chunks_++;
    }
    if (!chunk.update_id().empty()) update_id = chunk.update_id();
    absl::Status status;
    if (server_.hooks_.on_chunk) status = server_.hooks_.on_chunk(*context, chunk, number);
    if (status.ok()) status = server_.Land(update_id, chunk);
    if (!status.ok()) return ToGrpcStatus(status);
    response->set_chunks(response->chunks() + 1);
    response->set_bytes(response->bytes() + chunk.data().size());
  }
  if (response->chunks() == 0 && !context->IsCancelled()) {
    absl::MutexLock lock(&server_.mutex_);
    ++server_.empty_streams_;
  }
  // 0 where no chunk has named the update, as the wire says.
  response->set_missing_bytes(server_.MissingBytes(update_id));
  return grpc::Status::OK;
}

grpc::Status FakeServer::Service::CommitUpdate(grpc::ServerContext* context, const v1::CommitUpdateRequest* request,
                                               v1::CommitUpdateResponse* response) {
  absl::Status status;
  if (server_.hooks_.before_commit) status = server_.hooks_.before_commit(*context);
  if (status.ok()) status = server_.Commit(*request, *response);
  if (status.ok() && server_.hooks_.after_commit) status = server_.hooks_.after_commit(*context);
  return ToGrpcStatus(status);
}

grpc::Status FakeServer::Service::AbortUpdate(grpc::ServerContext* context, const v1::AbortUpdateRequest* request,
                                              v1::AbortUpdateResponse* response) {
  return ToGrpcStatus(server_.Abort(*request));
}

grpc::Status FakeServer::Service::GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request,
                                           v1::Model* response) {
  if (server_.hooks_.on_get_model) {
    const absl::Status status = server_.hooks_.on_get_model(*context);
    if (!status.ok()) return ToGrpcStatus(status);
  }
  *response = server_.State(request->model());
  if (response->versions().empty() && response->updates().empty()) {
    return ToGrpcStatus(absl::NotFoundError("unknown model"));
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::Service::GetManifest(grpc::ServerContext* context, const v1::GetManifestRequest* request,
                                              v1::Manifest* response) {
  const absl::StatusOr<Version> version = server_.Find(request->model(), request->version());
  if (!version.ok()) return ToGrpcStatus(version.status());
  *response = version->manifest;
  return grpc::Status::OK;
}

grpc::Status FakeServer::Service::Pull(grpc::ServerContext* context, const v1::PullRequest* request,
                                       grpc::ServerWriter<v1::WeightChunk>* writer) {
  {
    absl::MutexLock lock(&server_.mutex_);
    server_.pulls_.push_back(*request);
  }
  const absl::StatusOr<Version> version = server_.Find(request->model(), request->version());
  if (!version.ok()) return ToGrpcStatus(version.status());
  for (const v1::TensorSpec& spec : version->manifest.tensors()) {
    const std::string& bytes = version->bytes.at(spec.name());
    for (const ByteRange& range : RequestedRanges(*request, spec.name(), bytes.size())) {
      for (uint64_t begin = range.begin; begin < range.end || bytes.empty(); begin += server_.bucket_limit_bytes_) {
        v1::WeightChunk chunk;
        chunk.set_name(spec.name());
        chunk.set_dtype(spec.dtype());
        *chunk.mutable_shape() = spec.shape();
        chunk.set_offset(begin);
        chunk.set_data(bytes.substr(begin, std::min(server_.bucket_limit_bytes_, range.end - begin)));
        chunk.set_crc32c(ExtendCrc32c(0, chunk.data()));
        int number = 0;
        {
          absl::MutexLock lock(&server_.mutex_);
          number = server_.pull_chunks_++;
        }
        if (server_.hooks_.on_pull_chunk) {
          const absl::Status status = server_.hooks_.on_pull_chunk(*context, chunk, number);
          if (!status.ok()) return ToGrpcStatus(status);
        }
        if (!writer->Write(chunk)) return grpc::Status::CANCELLED;
        if (bytes.empty()) break;
      }
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::Service::DigestModel(grpc::ServerContext* context, const v1::DigestModelRequest* request,
                                              grpc::ServerWriter<v1::TensorDigest>* writer) {
  const absl::StatusOr<Version> version = server_.Find(request->model(), request->version());
  if (!version.ok()) return ToGrpcStatus(version.status());
  for (const v1::TensorSpec& spec : version->manifest.tensors()) {
    if (!request->names().empty() &&
        std::find(request->names().begin(), request->names().end(), spec.name()) == request->names().end()) {
      continue;
    }
    const std::string& bytes = version->bytes.at(spec.name());
    v1::TensorDigest digest;
    *digest.mutable_spec() = spec;
    digest.set_block_bytes(kDigestBlockBytes);
    digest.set_version(version->manifest.version());
    for (uint64_t begin = 0; begin < bytes.size(); begin += kDigestBlockBytes) {
      digest.add_crc32c(ExtendCrc32c(0, absl::string_view(bytes).substr(begin, kDigestBlockBytes)));
    }
    int number = 0;
    {
      absl::MutexLock lock(&server_.mutex_);
      number = server_.digests_++;
    }
    if (server_.hooks_.on_digest) {
      const absl::Status status = server_.hooks_.on_digest(*context, digest, number);
      if (!status.ok()) return ToGrpcStatus(status);
    }
    if (!writer->Write(digest)) return grpc::Status::CANCELLED;
  }
  return grpc::Status::OK;
}

}  // namespace weightstream
