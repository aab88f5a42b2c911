#include "client/begin_reply.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/begin_codec.h"
#include "proto/convert.h"

namespace weightstream {
namespace {

absl::Status BadReply(absl::string_view what) {
  return absl::InternalError(absl::StrCat("the server's answer to BeginUpdate makes no sense: ", what,
                                          "; is it a weightstream server of a compatible version?"));
}

absl::StatusOr<MissingTensor> CheckTensor(const v1::TensorRanges& ranges, const ManifestIndex& index) {
  const absl::optional<uint32_t> tensor = index.Find(ranges.name());
  if (!tensor.has_value()) {
    return BadReply(
        absl::StrCat("it misses tensor \"", Printable(ranges.name()), "\", which the manifest does not hold"));
  }
  absl::StatusOr<ByteRanges> missing = FromProto(ranges);
  if (!missing.ok()) return BadReply(missing.status().message());
  if (!missing->empty() && missing->back().end > index.bytes(*tensor)) {
    return BadReply(absl::StrCat("it misses bytes up to ", missing->back().end, " of tensor \"",
                                 Printable(ranges.name()), "\", which has ", index.bytes(*tensor)));
  }
  return MissingTensor{*tensor, *std::move(missing), /*place=*/0};
}

absl::StatusOr<std::vector<MissingTensor>> Listed(const v1::BeginUpdateResponse& reply, const ManifestIndex& index) {
  std::vector<MissingTensor> missing;
  missing.reserve(reply.missing_size());
  for (const v1::TensorRanges& ranges : reply.missing()) {
    absl::StatusOr<MissingTensor> tensor = CheckTensor(ranges, index);
    if (!tensor.ok()) return tensor.status();
    tensor->place = static_cast<uint32_t>(missing.size());
    missing.push_back(*std::move(tensor));
  }
  std::sort(missing.begin(), missing.end(),
            [](const MissingTensor& a, const MissingTensor& b) { return a.tensor < b.tensor; });
  const auto repeated =
      std::adjacent_find(missing.begin(), missing.end(),
                         [](const MissingTensor& a, const MissingTensor& b) { return a.tensor == b.tensor; });
  if (repeated != missing.end()) {
    return BadReply(absl::StrCat("tensor \"", Printable(index.tensors()[repeated->tensor].name), "\" is listed twice"));
  }
  return missing;
}

}  // namespace

BeginMessage MakeBeginMessage(const WeightSource& source, const grpc::Slice& manifest, const std::string& model,
                              uint64_t version, uint64_t bucket_limit_bytes) {
  v1::BeginUpdateRequest request;
  request.set_model(model);
  request.set_version(version);
  request.set_takes_everything_missing(true);
  request.set_bucket_limit_bytes(bucket_limit_bytes);
  ToProto(source.metadata(), request.mutable_metadata());
  request.set_source_id(source.source_id());
  return {version, EncodeBeginRequest(request, manifest)};
}

absl::StatusOr<Missing> CheckBeginReply(const v1::BeginUpdateResponse& reply, const ManifestIndex& index) {
  if (reply.update_id().empty()) return BadReply("the update id is empty");
  if (reply.everything_missing() && reply.missing_size() > 0) {
    return BadReply("everything is missing, and yet it lists what is");
  }
  Missing missing;
  missing.everything = reply.everything_missing();
  uint64_t bytes = 0;
  if (missing.everything) {
    for (uint32_t tensor = 0; tensor < index.tensors().size(); ++tensor) bytes += index.bytes(tensor);
  } else {
    absl::StatusOr<std::vector<MissingTensor>> listed = Listed(reply, index);
    if (!listed.ok()) return listed.status();
    missing.tensors = *std::move(listed);
  }
  for (const MissingTensor& tensor : missing.tensors) {
    for (const ByteRange& range : tensor.ranges) bytes += range.size();
  }
  if (bytes != reply.missing_bytes()) {
    return BadReply(absl::StrCat("the missing ranges add up to ", bytes, " bytes, not to ", reply.missing_bytes()));
  }
  if (bytes > 0 && reply.bucket_limit_bytes() == 0) return BadReply("the bucket limit is 0");
  return missing;
}

}  // namespace weightstream
