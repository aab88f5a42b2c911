// What a sender says about tensors. The input's first byte chooses: a BeginUpdateRequest, which is read as the server
// reads it and as generated code does, its manifest converted, validated and laid out as a file; or a TensorRanges, as
// in PullRequest. The rest is the message.
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "proto/begin_codec.h"
#include "proto/begin_codec_testing.h"
#include "proto/convert.h"
#include "tensor/safetensors_layout.h"
#include "tensor/spec.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_target.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

const absl::uint128 kMaxUint64 = absl::Uint128Max() >> 64;
constexpr uint64_t kMaxFileBytes = ~uint64_t{0} >> 1;

// The rules of spec.h once more, in the plainest form.
absl::optional<uint64_t> ReferenceBytes(const TensorSpec& spec) {
  absl::uint128 elements = 1;
  for (const uint64_t dimension : spec.shape) {
    if (dimension != 0) elements *= dimension;
    if (elements > kMaxUint64) return absl::nullopt;
  }
  const absl::uint128 bits = elements * static_cast<uint64_t>(DTypeBits(spec.dtype));
  if (std::count(spec.shape.begin(), spec.shape.end(), 0) > 0) return 0;
  if (bits % 8 != 0 || bits / 8 > kMaxUint64) return absl::nullopt;
  return absl::Uint128Low64(bits / 8);
}

absl::optional<uint64_t> ReferenceTotal(const std::vector<TensorSpec>& tensors) {
  std::set<std::string> names;
  absl::uint128 total = 0;
  for (const TensorSpec& spec : tensors) {
    const bool named = !spec.name.empty() && spec.name.size() <= kMaxTensorNameBytes && spec.name != "__metadata__" &&
                       spec.name.find('\0') == std::string::npos;
    const absl::optional<uint64_t> bytes = ReferenceBytes(spec);
    if (!named || !bytes.has_value() || !names.insert(spec.name).second) return absl::nullopt;
    total += *bytes;
  }
  if (total > kMaxFileBytes) return absl::nullopt;
  return absl::Uint128Low64(total);
}

void CheckLayout(const SafetensorsLayout& layout, size_t tensors, uint64_t total_bytes) {
  Require(layout.tensors.size() == tensors, "every tensor is laid out");
  Require(layout.data_bytes == total_bytes, "the data section is the sum of the tensors");
  Require(layout.data_start % kSafetensorsDataAlignment == 0, "the data section starts on a page");
  uint64_t position = 0;
  for (const PlacedTensor& tensor : layout.tensors) {
    Require(tensor.range.begin == position, "tensors follow each other without a hole", tensor.spec.name);
    Require(tensor.range.size() == TensorByteSize(tensor.spec).value(), "a tensor has its bytes", tensor.spec.name);
    Require(position % static_cast<uint64_t>(DTypeAlignment(tensor.spec.dtype)) == 0, "every tensor is aligned",
            tensor.spec.name);
    position = tensor.range.end;
  }
}

void CheckManifest(const v1::BeginUpdateRequest& request) {
  const absl::StatusOr<std::vector<TensorSpec>> specs = FromProto(request.tensors());
  if (!specs.ok()) return RequireClearError(specs.status());
  for (int i = 0; i < request.tensors_size(); ++i) {
    v1::TensorSpec sent = request.tensors(i);
    sent.DiscardUnknownFields();
    Require(ToProto((*specs)[static_cast<size_t>(i)]).SerializeAsString() == sent.SerializeAsString(),
            "what was converted converts back");
  }

  const absl::optional<uint64_t> expected = ReferenceTotal(*specs);
  const absl::StatusOr<uint64_t> total = ValidateManifest(*specs);
  Require(total.ok() == expected.has_value(), "a manifest is judged by its rules", total.status().ToString());
  const Metadata metadata = FromProto(request.metadata());
  const absl::StatusOr<SafetensorsLayout> layout = LayOutSafetensors(*specs, metadata);
  Require(layout.ok() == total.ok(), "what is valid can be laid out", layout.status().ToString());
  if (!total.ok()) {
    RequireClearError(total.status());
    RequireClearError(layout.status());
    return;
  }
  Require(*total == *expected, "the sum is right");
  CheckLayout(*layout, specs->size(), *total);

  const std::string header = EncodeSafetensorsHeader(*layout);
  Require(header.size() == layout->data_start, "the header is as long as it was said to be");
  const absl::StatusOr<SafetensorsLayout> parsed = ParseSafetensors("file", header, layout->file_bytes());
  Require(parsed.ok() && *parsed == *layout, "what we write we read", parsed.status().ToString());
  const std::vector<TensorSpec> reversed(specs->rbegin(), specs->rend());
  Require(LayOutSafetensors(reversed, metadata).value() == *layout, "the order of the manifest does not matter");
}

// The bytes in two slices, as a network may cut them.
grpc::ByteBuffer InTwoSlices(const uint8_t* data, size_t size, size_t first) {
  const grpc::Slice slices[] = {grpc::Slice(data, first), grpc::Slice(data + first, size - first)};
  return grpc::ByteBuffer(slices, 2);
}

std::string Bytes(const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  Require(buffer.DumpToSingleSlice(&slice).ok(), "a message can be read");
  return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size());
}

// The same message once more, with its manifest known; and with another known, of which one byte differs.
void CheckKnownManifest(const uint8_t* data, size_t size, const BeginRequest& read) {
  std::string known = read.wire;
  const auto find = [&known](const v1::BeginUpdateRequest& fields) { return absl::string_view(known); };
  BeginRequest again;
  Require(ParseBeginRequest(InTwoSlices(data, size, size / 2), again, find), "what was read is read with it known");
  Require(again.is_known == !read.wire.empty(), "a manifest is known by its bytes");
  Require(CanonicalBytes(again.fields) == CanonicalBytes(read.fields), "the fields are the same where it is known");
  Require(again.manifest.ok() && again.tensors == (again.is_known ? std::vector<TensorSpec>() : read.tensors),
          "the tensors are read where it is not known");
  if (known.empty()) return;
  known[known.size() / 2] ^= 1;
  Require(ParseBeginRequest(InTwoSlices(data, size, size / 2), again, find),
          "what was read is read with another known");
  Require(!again.is_known && again.wire == read.wire, "one byte makes another manifest");
  Require(CanonicalBytes(again.fields) == CanonicalBytes(read.fields),
          "the fields are the same where another is known");
  Require(again.manifest.ok() && again.tensors == read.tensors, "the tensors are the same where another is known");
}

// The server's own reader against the generated one, whose message is null where it refuses the bytes.
void CheckBeginCodec(const uint8_t* data, size_t size, const v1::BeginUpdateRequest* request) {
  BeginRequest read;
  const bool parsed = ParseBeginRequest(InTwoSlices(data, size, size / 3), read);
  Require(!parsed || request != nullptr, "what we take generated code takes");
  if (!parsed) {
    Require(request == nullptr || MayHoldWideTag({reinterpret_cast<const char*>(data), size}),
            "what generated code takes we take");
    return;
  }
  v1::BeginUpdateRequest fields = *request;
  fields.clear_tensors();
  Require(CanonicalBytes(read.fields) == CanonicalBytes(fields), "the fields are those of generated code");
  const absl::StatusOr<std::vector<TensorSpec>> specs = FromProto(request->tensors());
  Require(read.manifest == specs.status(), "a tensor is refused with the same words", read.manifest.ToString());
  if (!specs.ok()) return RequireClearError(read.manifest);
  Require(read.tensors == *specs, "the tensors are those of generated code");
  CheckKnownManifest(data, size, read);

  std::vector<uint32_t> order(specs->size());
  std::iota(order.begin(), order.end(), 0);
  v1::BeginUpdateRequest written;
  const std::string bytes = Bytes(EncodeBeginRequest(fields, EncodeManifest(*specs, order)));
  Require(written.ParseFromString(bytes), "generated code reads what we write");
  Require(CanonicalBytes(written) == CanonicalBytes(*request), "what was read is written");
  // Ours has the tensors last, which few inputs do.
  const auto* const ours = reinterpret_cast<const uint8_t*>(bytes.data());
  BeginRequest read_ours;
  Require(ParseBeginRequest(InTwoSlices(ours, bytes.size(), bytes.size() / 3), read_ours), "we read what we write");
  Require(read_ours.wire.empty() == specs->empty(), "a manifest that comes last is kept as it came");
  CheckKnownManifest(ours, bytes.size(), read_ours);
}

void CheckRanges(const v1::TensorRanges& message) {
  uint64_t end = 0;
  bool ascending = true;
  for (const v1::ByteRange& range : message.ranges()) {
    ascending = ascending && range.begin() >= end && range.end() >= range.begin();
    end = range.end();
  }
  const absl::StatusOr<ByteRanges> ranges = FromProto(message);
  Require(ranges.ok() == ascending, "ranges are taken if they ascend", ranges.status().ToString());
  if (!ranges.ok()) return RequireClearError(ranges.status());
  v1::TensorRanges sent = message;
  sent.DiscardUnknownFields();
  Require(ToProto(message.name(), *ranges).SerializeAsString() == sent.SerializeAsString(),
          "ranges that were converted convert back");
}

}  // namespace
}  // namespace weightstream

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weightstream;
  // Protobuf logs each text that is not UTF-8.
  static const auto silence = google::protobuf::SetLogHandler(nullptr);
  static_cast<void>(silence);
  if (size == 0) return 0;
  const int bytes = static_cast<int>(size - 1);
  v1::BeginUpdateRequest request;
  v1::TensorRanges ranges;
  if (data[0] % 2 == 0) {
    const bool parsed = request.ParseFromArray(data + 1, bytes);
    CheckBeginCodec(data + 1, size - 1, parsed ? &request : nullptr);
    if (parsed) CheckManifest(request);
  } else {
    if (ranges.ParseFromArray(data + 1, bytes)) CheckRanges(ranges);
  }
  return 0;
}
