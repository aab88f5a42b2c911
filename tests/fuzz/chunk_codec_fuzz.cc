// The parser of WeightChunk against the generated one, and the encoder against the generated serializer. The input is
// kBorders bytes that say where the message is cut into slices, as parts of 255, and the message.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "kernels/checksum.h"
#include "proto/chunk_codec.h"
#include "proto/chunk_codec_testing.h"
#include "tensor/spec.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_target.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

constexpr size_t kBorders = 3;
// Field 99, of four bytes.
constexpr absl::string_view kHeaderCrc32cTag = "\x9d\x06";

grpc::ByteBuffer CutIntoSlices(absl::string_view message, absl::string_view borders) {
  std::vector<size_t> ends;
  for (const char border : borders) ends.push_back(message.size() * static_cast<uint8_t>(border) / 255);
  std::sort(ends.begin(), ends.end());
  return Sliced(message, ends);
}

// Whether the last header_crc32c of a well-formed message is that of the bytes before it.
bool ReferenceIntact(absl::string_view message, const v1::WeightChunk& generated) {
  using google::protobuf::internal::WireFormatLite;
  google::protobuf::io::CodedInputStream input(reinterpret_cast<const uint8_t*>(message.data()),
                                               static_cast<int>(message.size()));
  const uint32_t checksum_tag = WireFormatLite::MakeTag(99, WireFormatLite::WIRETYPE_FIXED32);
  absl::optional<size_t> last;
  while (true) {
    const auto position = static_cast<size_t>(input.CurrentPosition());
    const uint32_t tag = input.ReadTag();
    if (tag == 0) break;
    if (tag == checksum_tag) last = position;
    Require(WireFormatLite::SkipField(&input, tag), "what protobuf took it can walk through");
  }
  return !last.has_value() || generated.header_crc32c() == ExtendCrc32c(0, message.substr(0, *last));
}

// Not the tests' DataOf: what GoogleTest expects ends no fuzzer.
std::string RequiredDataOf(const ReceivedChunk& chunk) {
  std::string data;
  for (const absl::string_view piece : chunk.pieces()) {
    Require(!piece.empty(), "no piece is empty");
    absl::StrAppend(&data, piece);
  }
  return data;
}

std::string BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  Require(buffer.Dump(&slices).ok(), "an encoded chunk can be read");
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

// What chunk_codec.h says that it refuses and protobuf takes, as far as so short an input can hold it.
bool DeliberatelyRefused(const v1::WeightChunk& generated, const absl::Status& status) {
  return static_cast<size_t>(generated.shape_size()) > kMaxTensorRank || absl::StrContains(status.message(), "2^29-1");
}

// With the checksum that belongs to its header, if it has one.
void SetRightHeaderCrc32c(v1::WeightChunk& chunk) {
  if (!chunk.has_header_crc32c()) return;
  v1::WeightChunk covered = chunk;
  covered.clear_header_crc32c();
  covered.clear_data();
  chunk.set_header_crc32c(ExtendCrc32c(0, covered.SerializeAsString()));
}

void CheckEncoder(v1::WeightChunk generated) {
  generated.DiscardUnknownFields();
  SetRightHeaderCrc32c(generated);
  int released = 0;
  {
    const grpc::ByteBuffer encoded = EncodeChunk(HeaderOf(generated), generated.data(), [&released] { ++released; });
    Require(BytesOf(encoded) == generated.SerializeAsString(), "the encoder writes what the generated one writes");
    Require(released == (generated.data().empty() ? 1 : 0), "borrowed bytes are kept as long as the buffer");
  }
  Require(released == 1, "borrowed bytes are given back once");
}

// `chunk` may hold another one.
bool CheckParser(absl::string_view message, grpc::ByteBuffer buffer, bool accepted, const v1::WeightChunk& generated,
                 ReceivedChunk& chunk) {
  const absl::Status status = chunk.Parse(buffer);
  if (!status.ok()) {
    const bool has_checksum = absl::StrContains(message, kHeaderCrc32cTag);
    Require(has_checksum || !absl::IsDataLoss(status), "without a checksum nothing is called damaged");
    RequireClearError(absl::IsDataLoss(status) ? absl::InvalidArgumentError(status.message()) : status);
    Require(!accepted || DeliberatelyRefused(generated, status), "what protobuf takes is taken", status.ToString());
    Require(chunk.header() == ChunkHeader() && chunk.pieces().empty() && chunk.data_bytes() == 0,
            "what is refused leaves no chunk");
    return false;
  }
  Require(accepted, "what protobuf refuses is refused");
  Require(chunk.header() == HeaderOf(generated), "every field is what protobuf reads");
  Require(chunk.data_bytes() == generated.data().size(), "the data's length is what protobuf reads");
  Require(RequiredDataOf(chunk) == generated.data(), "the data are what protobuf reads");
  const absl::Status intact = chunk.CheckIntact();
  Require(intact.ok() == ReferenceIntact(message, generated), "a header is believed if its checksum is right",
          intact.ToString());
  Require(intact.ok() || absl::IsDataLoss(intact), "a damaged header is DATA_LOSS", intact.ToString());
  Require(chunk.header().followed_by.size() <= kMaxFollowingTensors, "limits hold");
  return true;
}

}  // namespace
}  // namespace weightstream

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weightstream;
  // Protobuf logs each text that is not UTF-8.
  static const auto silence = google::protobuf::SetLogHandler(nullptr);
  static_cast<void>(silence);
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  const absl::string_view borders = input.substr(0, kBorders);
  const absl::string_view message = input.substr(borders.size());

  v1::WeightChunk generated;
  const bool accepted = generated.ParseFromArray(message.data(), static_cast<int>(message.size()));
  ReceivedChunk chunk;
  const bool taken = CheckParser(message, CutIntoSlices(message, {}), accepted, generated, chunk);
  // Again, cut and into an object that has held a chunk: nothing of that may show, and slices make no difference.
  Require(CheckParser(message, CutIntoSlices(message, borders), accepted, generated, chunk) == taken,
          "slices make no difference");
  if (taken) CheckEncoder(generated);
  return 0;
}
