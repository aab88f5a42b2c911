#include "server/version_stream.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "proto/chunk_codec.h"
#include "proto/convert.h"
#include "tensor/dtype.h"

namespace weightstream {
namespace {

// With its header within the 4 MiB that a client of any language takes in one message unless told otherwise.
constexpr uint64_t kDefaultPullBytes = 2 << 20;

// Each further one means that a version was committed and the one before removed within microseconds.
constexpr int kOpenAttempts = 5;

struct FoundVersion {
  uint64_t version = 0;
  uint32_t manifest_crc32c = 0;
  // Shared with the slices that gRPC still has to send.
  std::shared_ptr<const OpenVersion> open;
};

absl::StatusOr<FoundVersion> OpenModelVersion(const CallEnvironment& environment, const std::string& model,
                                              uint64_t version) {
  absl::StatusOr<std::shared_ptr<Model>> found = environment.registry->Find(model);
  if (!found.ok()) return found.status();
  for (int attempt = 1;; ++attempt) {
    absl::StatusOr<VersionRecord> record = (*found)->FindVersion(version);
    if (!record.ok()) return record.status();
    absl::StatusOr<OpenVersion> open = environment.store->OpenForReading(model, record->version);
    // The version may have made room for a newer one since it was found: then there is another to be found.
    if (absl::IsNotFound(open.status()) && attempt < kOpenAttempts) continue;
    if (!open.ok()) return open.status();
    return FoundVersion{record->version, record->manifest_crc32c,
                        std::make_shared<const OpenVersion>(*std::move(open))};
  }
}

absl::flat_hash_map<absl::string_view, size_t> IndexByName(const SafetensorsLayout& layout) {
  absl::flat_hash_map<absl::string_view, size_t> index;
  index.reserve(layout.tensors.size());
  for (size_t i = 0; i < layout.tensors.size(); ++i) index[layout.tensors[i].spec.name] = i;
  return index;
}

absl::Status UnknownTensor(const std::string& name, const std::string& model, uint64_t version) {
  return absl::NotFoundError(absl::StrCat("version ", version, " of model '", model, "' has no tensor '",
                                          Printable(name), "'; GetManifest lists those it has"));
}

// What a Pull sends of one tensor.
struct Part {
  size_t tensor = 0;
  ByteRanges ranges;
};

absl::StatusOr<std::vector<Part>> SelectParts(const v1::PullRequest& request, const FoundVersion& found) {
  const SafetensorsLayout& layout = found.open->layout;
  std::vector<Part> parts;
  if (request.parts().empty()) {
    for (size_t i = 0; i < layout.tensors.size(); ++i) parts.push_back({i, {{0, layout.tensors[i].range.size()}}});
    return parts;
  }
  const auto index = IndexByName(layout);
  for (const v1::TensorRanges& wanted : request.parts()) {
    const auto tensor = index.find(wanted.name());
    if (tensor == index.end()) return UnknownTensor(wanted.name(), request.model(), found.version);
    absl::StatusOr<ByteRanges> ranges = FromProto(wanted);
    if (!ranges.ok()) return ranges.status();
    const uint64_t bytes = layout.tensors[tensor->second].range.size();
    if (ranges->empty()) ranges->push_back({0, bytes});
    if (ranges->back().end > bytes) {
      return absl::InvalidArgumentError(absl::StrCat("tensor '", Printable(wanted.name()), "' has ", bytes,
                                                     " bytes, and a part up to ", ranges->back().end,
                                                     " was asked for"));
    }
    parts.push_back({tensor->second, *std::move(ranges)});
  }
  return parts;
}

}  // namespace

absl::Status ServePull(const CallEnvironment& environment, grpc::ServerContext* context, const v1::PullRequest& request,
                       grpc::ServerWriterInterface<grpc::ByteBuffer>* writer) {
  absl::StatusOr<std::unique_ptr<OpenCalls::Call>> call = environment.calls->Enter(context, "Pull");
  if (!call.ok()) return call.status();
  absl::StatusOr<FoundVersion> found = OpenModelVersion(environment, request.model(), request.version());
  if (!found.ok()) return found.status();
  absl::StatusOr<std::vector<Part>> parts = SelectParts(request, *found);
  if (!parts.ok()) return parts.status();
  const uint64_t wanted = request.bucket_limit_bytes() == 0 ? kDefaultPullBytes : request.bucket_limit_bytes();
  const uint64_t bucket = std::min(wanted, environment.limits->bucket_bytes);
  Permit permit(environment.authorizer, *context, "Pull");
  for (const Part& part : *parts) {
    const TensorSpec& spec = found->open->layout.tensors[part.tensor].spec;
    const absl::string_view data = found->open->data(part.tensor);
    ChunkHeader header;
    header.name = spec.name;
    header.dtype = std::string(DTypeName(spec.dtype));
    header.shape.assign(spec.shape.begin(), spec.shape.end());
    header.has_header_crc32c = true;
    for (const ByteRange& range : part.ranges) {
      uint64_t at = range.begin;
      do {
        if (absl::Status allowed = permit.Check(request.model()); !allowed.ok()) return allowed;
        const absl::string_view bytes = data.substr(at, std::min(bucket, range.end - at));
        header.offset = at;
        header.crc32c = ExtendCrc32c(0, bytes);
        if (!(*call)->Write(*writer, EncodeChunk(header, bytes, [open = found->open] {}))) return (*call)->EndStatus();
        environment.metrics->ChunkSent(bytes.size());
        (*call)->Moved(bytes.size());
        at += bytes.size();
      } while (at < range.end);
    }
    if (context->IsCancelled()) return (*call)->EndStatus();
  }
  return absl::OkStatus();
}

absl::Status ServeDigest(const CallEnvironment& environment, grpc::ServerContext* context,
                         const v1::DigestModelRequest& request, grpc::ServerWriterInterface<v1::TensorDigest>* writer) {
  absl::StatusOr<std::unique_ptr<OpenCalls::Call>> call = environment.calls->Enter(context, "DigestModel");
  if (!call.ok()) return call.status();
  absl::StatusOr<FoundVersion> found = OpenModelVersion(environment, request.model(), request.version());
  if (!found.ok()) return found.status();
  const SafetensorsLayout& layout = found->open->layout;
  std::vector<size_t> wanted;
  if (request.names().empty()) {
    for (size_t i = 0; i < layout.tensors.size(); ++i) wanted.push_back(i);
  } else {
    const auto index = IndexByName(layout);
    for (const std::string& name : request.names()) {
      const auto tensor = index.find(name);
      if (tensor == index.end()) return UnknownTensor(name, request.model(), found->version);
      wanted.push_back(tensor->second);
    }
  }
  Permit permit(environment.authorizer, *context, "DigestModel");
  for (const size_t tensor : wanted) {
    if (absl::Status allowed = permit.Check(request.model()); !allowed.ok()) return allowed;
    v1::TensorDigest digest;
    *digest.mutable_spec() = ToProto(layout.tensors[tensor].spec);
    digest.set_block_bytes(kDigestBlockBytes);
    digest.set_version(found->version);
    for (absl::string_view rest = found->open->data(tensor); !rest.empty();) {
      if (context->IsCancelled()) return (*call)->EndStatus();
      const absl::string_view block = rest.substr(0, kDigestBlockBytes);
      digest.add_crc32c(ExtendCrc32c(0, block));
      rest.remove_prefix(block.size());
    }
    if (!(*call)->Write(*writer, digest)) return (*call)->EndStatus();
  }
  return absl::OkStatus();
}

absl::Status ServeManifest(const CallEnvironment& environment, const v1::GetManifestRequest& request,
                           v1::Manifest* response) {
  absl::StatusOr<FoundVersion> found = OpenModelVersion(environment, request.model(), request.version());
  if (!found.ok()) return found.status();
  response->set_model(request.model());
  response->set_version(found->version);
  response->set_total_bytes(found->open->layout.data_bytes);
  for (const PlacedTensor& tensor : found->open->layout.tensors) *response->add_tensors() = ToProto(tensor.spec);
  ToProto(found->open->layout.metadata, response->mutable_metadata());
  response->set_manifest_crc32c(found->manifest_crc32c);
  return absl::OkStatus();
}

}  // namespace weightstream
