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

// Between two looks at whether the caller is still there: what one launch on a GPU sums, and a tenth of a second of a
// processor's time at most. A multiple of kDigestBlockBytes.
constexpr uint64_t kDigestedAtOnceBytes = 16 * kDigestBlockBytes;

// Each further one means that a version was committed and the one before removed within microseconds.
constexpr int kOpenAttempts = 5;

struct FoundVersion {
  uint64_t version = 0;
  uint32_t manifest_crc32c = 0;
  // Shared with the slices that gRPC still has to send.
  std::shared_ptr<const ReadableVersion> open;

  const SafetensorsLayout& layout() const { return open->layout(); }
};

absl::StatusOr<FoundVersion> OpenModelVersion(const CallEnvironment& environment, const std::string& model,
                                              uint64_t version) {
  absl::StatusOr<std::shared_ptr<Model>> found = environment.registry->Find(model);
  if (!found.ok()) return found.status();
  for (int attempt = 1;; ++attempt) {
    absl::StatusOr<VersionRecord> record = (*found)->FindVersion(version);
    if (!record.ok()) return record.status();
    absl::StatusOr<std::shared_ptr<const ReadableVersion>> open = environment.medium->Open(model, record->version);
    // The version may have made room for a newer one since it was found: then there is another to be found.
    if (absl::IsNotFound(open.status()) && attempt < kOpenAttempts) continue;
    if (!open.ok()) return open.status();
    return FoundVersion{record->version, record->manifest_crc32c, *std::move(open)};
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
  const SafetensorsLayout& layout = found.layout();
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

// All of a digest but the sums.
v1::TensorDigest DescribeHeld(const TensorSpec& spec, const HeldTensor& held) {
  v1::TensorDigest digest;
  *digest.mutable_spec() = ToProto(spec);
  digest.set_block_bytes(kDigestBlockBytes);
  digest.set_not_held(!held.held);
  if (held.dtype != spec.dtype) digest.set_held_dtype(std::string(DTypeName(held.dtype)));
  if (held.slice.has_value()) {
    digest.mutable_slice()->set_dimension(held.slice->dimension);
    digest.mutable_slice()->set_begin(held.slice->begin);
    digest.mutable_slice()->set_end(held.slice->end);
  }
  return digest;
}

// A chunk that borrows its bytes from the version's mapping.
grpc::ByteBuffer BorrowedChunk(ChunkHeader& header, absl::string_view bytes,
                               const std::shared_ptr<const ReadableVersion>& open) {
  header.crc32c = ExtendCrc32c(0, bytes);
  return EncodeChunk(header, bytes, [open] {});
}

// A chunk with bytes of the data section that only the device can reach. They live until gRPC has sent them: Write
// returns no earlier than there is room for the next.
absl::StatusOr<grpc::ByteBuffer> CopiedChunk(ChunkHeader& header, const ReadableVersion& version, ByteRange range) {
  auto copy = std::make_shared<std::string>(range.size(), '\0');
  if (absl::Status read = version.Read(range, copy->data()); !read.ok()) return read;
  header.crc32c = ExtendCrc32c(0, *copy);
  return EncodeChunk(header, *copy, [copy] {});
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
  for (const Part& part : *parts) {
    // Before the first chunk: nobody wants the others without it.
    if (absl::Status readable = found->open->CheckReadable(static_cast<uint32_t>(part.tensor)); !readable.ok()) {
      return readable;
    }
  }
  Permit permit(environment.authorizer, *context, "Pull");
  for (const Part& part : *parts) {
    const PlacedTensor& placed = found->layout().tensors[part.tensor];
    const TensorSpec& spec = placed.spec;
    const absl::optional<absl::string_view> data = found->open->InPlace(placed.range);
    ChunkHeader header;
    header.name = spec.name;
    header.dtype = std::string(DTypeName(spec.dtype));
    header.shape.assign(spec.shape.begin(), spec.shape.end());
    header.has_header_crc32c = true;
    for (const ByteRange& range : part.ranges) {
      uint64_t at = range.begin;
      do {
        if (absl::Status allowed = permit.Check(request.model()); !allowed.ok()) return allowed;
        const uint64_t size = std::min(bucket, range.end - at);
        header.offset = at;
        absl::StatusOr<grpc::ByteBuffer> chunk =
            data.has_value()
                ? BorrowedChunk(header, data->substr(at, size), found->open)
                : CopiedChunk(header, *found->open, {placed.range.begin + at, placed.range.begin + at + size});
        if (!chunk.ok()) return chunk.status();
        if (!(*call)->Write(*writer, *chunk)) return (*call)->EndStatus();
        environment.metrics->ChunkSent(size);
        environment.poller->StreamMoved();
        (*call)->Moved(size);
        at += size;
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
  const SafetensorsLayout& layout = found->layout();
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
    const HeldTensor held = found->open->HowHeld(static_cast<uint32_t>(tensor));
    if (!request.takes_held_form()) {
      // The caller would take the digest for that of the tensor as it was pushed.
      absl::Status readable = found->open->CheckReadable(static_cast<uint32_t>(tensor));
      if (!readable.ok()) return readable;
    }
    v1::TensorDigest digest = DescribeHeld(layout.tensors[tensor].spec, held);
    digest.set_version(found->version);
    for (ByteRange rest{0, held.bytes}; !rest.empty();) {
      if (context->IsCancelled()) return (*call)->EndStatus();
      const ByteRange part{rest.begin, rest.begin + std::min(rest.size(), kDigestedAtOnceBytes)};
      absl::StatusOr<std::vector<uint32_t>> blocks =
          found->open->Digest(static_cast<uint32_t>(tensor), part, kDigestBlockBytes);
      if (!blocks.ok()) return blocks.status();
      for (const uint32_t block : *blocks) digest.add_crc32c(block);
      (*call)->Advanced(part.size());
      rest.begin = part.end;
    }
    if (!(*call)->Write(*writer, digest)) return (*call)->EndStatus();
  }
  return absl::OkStatus();
}

absl::Status ServeManifest(const CallEnvironment& environment, const v1::GetManifestRequest& request,
                           v1::Manifest* response) {
  absl::StatusOr<FoundVersion> found = OpenModelVersion(environment, request.model(), request.version());
  if (!found.ok()) return found.status();
  // The entries take about as much as they do in the file's header; until they are sent, when they are counted as they
  // are.
  absl::StatusOr<std::unique_ptr<UnsentReplies::Room>> room = environment.replies->Reserve(found->layout().data_start);
  if (!room.ok()) return room.status();
  response->set_model(request.model());
  response->set_version(found->version);
  response->set_total_bytes(found->layout().data_bytes);
  for (const PlacedTensor& tensor : found->layout().tensors) *response->add_tensors() = ToProto(tensor.spec);
  ToProto(found->layout().metadata, response->mutable_metadata());
  response->set_manifest_crc32c(found->manifest_crc32c);
  return absl::OkStatus();
}

}  // namespace weightstream
