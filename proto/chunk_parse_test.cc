// What ReceivedChunk::Parse restores from protobuf, case by case. chunk_codec_differential_test.cc compares at random.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/checksum.h"
#include "proto/chunk_codec.h"
#include "proto/chunk_codec_testing.h"
#include "tensor/spec.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

std::string Tag(uint64_t number, int type) { return Varint(number << 3 | static_cast<uint64_t>(type)); }
std::string Delimited(uint64_t number, const std::string& value) {
  return absl::StrCat(Tag(number, 2), Varint(value.size()), value);
}

// A literal's bytes, NUL among them.
template <size_t kSize>
std::string Bytes(const char (&literal)[kSize]) {
  return std::string(literal, kSize - 1);
}

v1::WeightChunk FullChunk() {
  v1::WeightChunk chunk;
  chunk.set_name("model.layers.0.\u00e9");
  for (uint64_t extent : {uint64_t{3}, uint64_t{300}, uint64_t{0}, UINT64_MAX}) chunk.add_shape(extent);
  chunk.set_dtype("BF16");
  chunk.set_offset(1 << 20);
  chunk.set_crc32c(0xdeadbeef);
  chunk.set_update_id("update-1");
  chunk.set_data("some bytes that are data");
  return chunk;
}

// Parses the message in one slice and in slices of one byte, and expects what the generated parser gives.
void ExpectParsedAsGenerated(const std::string& message) {
  v1::WeightChunk generated;
  ASSERT_TRUE(generated.ParseFromString(message));
  std::vector<size_t> every_byte;
  for (size_t i = 0; i <= message.size(); ++i) every_byte.push_back(i);
  for (const std::vector<size_t>& borders : {std::vector<size_t>(), every_byte}) {
    grpc::ByteBuffer buffer = Sliced(message, borders);
    ReceivedChunk chunk;
    const absl::Status status = chunk.Parse(buffer);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_FALSE(buffer.Valid());
    ExpectSameChunk(chunk, generated);
  }
}

// Expects both parsers to refuse the message, and ours to say why, whole and in slices of one byte.
void ExpectRefused(const std::string& message, const std::string& why) {
  {
    const SilentProtobuf silent;
    EXPECT_FALSE(v1::WeightChunk().ParseFromString(message));
  }
  std::vector<size_t> every_byte;
  for (size_t i = 0; i <= message.size(); ++i) every_byte.push_back(i);
  for (const std::vector<size_t>& borders : {std::vector<size_t>(), every_byte}) {
    grpc::ByteBuffer buffer = Sliced(message, borders);
    ReceivedChunk chunk;
    const absl::Status status = chunk.Parse(buffer);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
    EXPECT_FALSE(buffer.Valid());
    ExpectNoChunk(chunk);
  }
}

TEST(ChunkParseTest, EmptyMessageIsADefaultChunk) { ExpectParsedAsGenerated(""); }

TEST(ChunkParseTest, EverySliceBorderGivesTheSameChunk) {
  const v1::WeightChunk generated = FullChunk();
  const std::string message = generated.SerializeAsString();
  ReceivedChunk chunk;
  for (size_t first = 0; first <= message.size(); ++first) {
    for (size_t second = first; second <= message.size(); ++second) {
      // Equal borders make an empty slice between them.
      grpc::ByteBuffer buffer = Sliced(message, {first, second});
      ASSERT_TRUE(chunk.Parse(buffer).ok()) << first << ", " << second;
      ExpectSameChunk(chunk, generated);
    }
  }
}

TEST(ChunkParseTest, PiecesAreTheSlicesOwnBytes) {
  const std::string prefix = Delimited(1, "w") + Tag(100, 2) + Varint(60);
  const std::string first(40, '1');
  const std::string second(20, '2');
  const grpc::Slice slices[] = {grpc::Slice(prefix.data(), prefix.size(), grpc::Slice::STATIC_SLICE), grpc::Slice(),
                                grpc::Slice(first.data(), first.size(), grpc::Slice::STATIC_SLICE), grpc::Slice(),
                                grpc::Slice(second.data(), second.size(), grpc::Slice::STATIC_SLICE)};
  grpc::ByteBuffer buffer(slices, std::size(slices));
  ReceivedChunk chunk;
  ASSERT_TRUE(chunk.Parse(buffer).ok());
  ASSERT_EQ(chunk.pieces().size(), 2u);
  EXPECT_EQ(chunk.pieces()[0].data(), first.data());
  EXPECT_EQ(chunk.pieces()[1].data(), second.data());
  EXPECT_EQ(chunk.data_bytes(), 60u);
}

TEST(ChunkParseTest, FieldsMayComeInAnyOrder) {
  const v1::WeightChunk full = FullChunk();
  const google::protobuf::Descriptor* const descriptor = v1::WeightChunk::descriptor();
  // The bytes of each field alone.
  std::vector<std::string> fields;
  for (int kept = 0; kept < descriptor->field_count(); ++kept) {
    v1::WeightChunk one = full;
    for (int i = 0; i < descriptor->field_count(); ++i) {
      if (i != kept) one.GetReflection()->ClearField(&one, descriptor->field(i));
    }
    fields.push_back(one.SerializeAsString());
  }
  std::sort(fields.begin(), fields.end());
  do {
    const std::string message = absl::StrJoin(fields, "");
    grpc::ByteBuffer buffer = Sliced(message, {});
    ReceivedChunk chunk;
    ASSERT_TRUE(chunk.Parse(buffer).ok());
    ExpectSameChunk(chunk, full);
  } while (!HasFailure() && std::next_permutation(fields.begin(), fields.end()));
}

TEST(ChunkParseTest, LastOfARepeatedSingularFieldWins) {
  v1::WeightChunk other;
  other.set_name("x");
  other.set_dtype("a longer dtype than the other");
  other.set_offset(0);
  other.set_crc32c(0);
  other.set_update_id("z");
  other.set_data("d");
  ExpectParsedAsGenerated(FullChunk().SerializeAsString() + other.SerializeAsString());
  ExpectParsedAsGenerated(other.SerializeAsString() + FullChunk().SerializeAsString());
  // Defaults that are on the wire win too.
  ExpectParsedAsGenerated(FullChunk().SerializeAsString() + Delimited(1, "") + Tag(4, 0) + Varint(0) +
                          Delimited(100, ""));
}

TEST(ChunkParseTest, PackedAndUnpackedShapesAddUp) {
  const std::string message = Delimited(2, Varint(1) + Varint(200)) + Tag(2, 0) + Varint(3) + Delimited(2, "") +
                              Delimited(2, Varint(UINT64_MAX)) + Tag(2, 0) + Varint(0);
  ExpectParsedAsGenerated(message);
  grpc::ByteBuffer buffer = Sliced(message, {});
  ReceivedChunk chunk;
  ASSERT_TRUE(chunk.Parse(buffer).ok());
  EXPECT_THAT(chunk.header().shape, ElementsAre(1, 200, 3, UINT64_MAX, 0));
}

TEST(ChunkParseTest, UnknownFieldsOfEveryTypeAreSkipped) {
  const std::string fields[] = {
      Tag(7, 0) + Varint(UINT64_MAX),
      Tag(8, 1) + "12345678",
      Delimited(9, "bytes"),
      Delimited(536870911, ""),
      Tag(10, 5) + "1234",
      Tag(11, 3) + Tag(11, 4),
      Tag(11, 3) + Tag(1, 0) + Varint(5) + Delimited(2, "x") + Tag(12, 3) + Tag(12, 4) + Tag(11, 4),
  };
  std::string all = FullChunk().SerializeAsString();
  for (const std::string& field : fields) {
    ExpectParsedAsGenerated(field);
    ExpectParsedAsGenerated(absl::StrCat(field, FullChunk().SerializeAsString(), field));
    all += field;
  }
  ExpectParsedAsGenerated(all);
}

TEST(ChunkParseTest, KnownFieldWithAnotherWireTypeIsUnknown) {
  const std::string full = FullChunk().SerializeAsString();
  for (int number : {1, 2, 3, 4, 5, 6, 100}) {
    ExpectParsedAsGenerated(full + Tag(number, 1) + "12345678");
    ExpectParsedAsGenerated(full + Tag(number, 3) + Tag(number, 4));
    if (number != 5) ExpectParsedAsGenerated(full + Tag(number, 5) + "1234");
    if (number != 2 && number != 4) ExpectParsedAsGenerated(full + Tag(number, 0) + Varint(9));
    if (number == 4 || number == 5) ExpectParsedAsGenerated(full + Delimited(number, "text"));
  }
}

TEST(ChunkParseTest, GroupsMayNestToTheDepthThatProtobufAllows) {
  const auto nested = [](int depth) {
    std::string message;
    for (int i = 0; i < depth; ++i) message += Tag(20 + i, 3);
    for (int i = depth; i-- > 0;) message += Tag(20 + i, 4);
    return message;
  };
  ExpectParsedAsGenerated(nested(100));
  ExpectRefused(nested(101), "groups nest deeper than 100 levels");
  ExpectRefused(nested(100000), "groups nest deeper than 100 levels");
}

TEST(ChunkParseTest, BrokenGroupsAreRefused) {
  ExpectRefused(Tag(11, 4), "a group ends that was not begun");
  ExpectRefused(Tag(11, 3), "ends inside the field");
  ExpectRefused(Tag(11, 3) + Tag(12, 4), "a group ends with another group's number");
  ExpectRefused(Tag(11, 3) + Tag(12, 3) + Tag(11, 4) + Tag(12, 4), "a group ends with another group's number");
  ExpectRefused(Tag(1, 3) + Tag(1, 4) + Tag(1, 4), "a group ends that was not begun");
}

TEST(ChunkParseTest, BadTagsAreRefused) {
  for (int type = 0; type < 8; ++type) ExpectRefused(Tag(0, type) + "123456789", "a field number is 0");
  ExpectRefused(Tag(7, 6), "a wire type is unknown");
  ExpectRefused(Tag(7, 7), "a wire type is unknown");
  ExpectRefused(Bytes("\x8a\x80\x80\x80\x80\x00\x01x"), "a tag is longer than 5 bytes");
  // 0x80 0x00 is a zero in two bytes.
  ExpectRefused(Bytes("\x80\x00\x00"), "a field number is 0");
}

TEST(ChunkParseTest, PaddedTagsAndNumbersAreRead) {
  ExpectParsedAsGenerated(Bytes("\x8a\x80\x80\x80\x00\x81\x80\x80\x80\x00x"));
  ExpectParsedAsGenerated(Bytes("\x20\x85\x80\x80\x80\x80\x80\x80\x80\x80\x00"));
  // Bits beyond the 64th are dropped.
  ExpectParsedAsGenerated(Bytes("\x20\x85\x80\x80\x80\x80\x80\x80\x80\x80\x7f"));
}

TEST(ChunkParseTest, LongVarintsAreRefused) {
  const std::string eleven = Bytes("\x85\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00");
  ExpectRefused(Tag(4, 0) + eleven, "a varint is longer than 10 bytes");
  ExpectRefused(Tag(2, 0) + eleven, "a varint is longer than 10 bytes");
  ExpectRefused(Delimited(2, eleven), "a varint is longer than 10 bytes");
  ExpectRefused(Tag(7, 0) + eleven, "a varint is longer than 10 bytes");
}

TEST(ChunkParseTest, LengthsBeyondTheMessageAreRefused) {
  for (int number : {1, 2, 3, 6, 7, 100}) {
    ExpectRefused(Tag(number, 2) + Varint(4) + "123", "a length exceeds the bytes that are left");
    ExpectRefused(Tag(number, 2) + Varint((uint64_t{2} << 30) - 1) + "123", "a length exceeds the bytes that are left");
    ExpectRefused(Tag(number, 2) + Varint(uint64_t{2} << 30) + "123", "a length is over 2 GiB");
    ExpectRefused(Tag(number, 2) + Varint(UINT64_MAX) + "123", "a length is over 2 GiB");
    // A short length written in six bytes.
    ExpectRefused(Tag(number, 2) + Bytes("\x81\x80\x80\x80\x80\x00x"), "a length is over 2 GiB");
  }
}

TEST(ChunkParseTest, PackedEntryMayNotRunPastItsField) {
  ExpectRefused(Tag(2, 2) + Varint(1) + "\xff\x01", "a packed entry runs past the field's length");
  ExpectRefused(Tag(2, 2) + Varint(2) + "\x01\x80", "ends inside the field");
}

TEST(ChunkParseTest, InvalidUtf8IsRefusedAlsoWhereALaterFieldReplacesIt) {
  for (int number : {1, 3, 6}) {
    for (const std::string text : {"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\x80z"}) {
      ExpectRefused(Delimited(number, text), "a text is not valid UTF-8");
      ExpectRefused(Delimited(number, text) + Delimited(number, "fine"), "a text is not valid UTF-8");
    }
    ExpectParsedAsGenerated(Delimited(number, Bytes("NUL \0 is text \xf0\x9f\x98\x80")));
  }
  ExpectParsedAsGenerated(Delimited(100, "\xff"));
}

TEST(ChunkParseTest, RankIsBoundedThoughProtobufHasNoLimit) {
  for (bool packed : {false, true}) {
    const auto shape = [packed](size_t rank) {
      std::string message;
      for (size_t i = 0; i < rank; ++i) message += packed ? std::string("\x01") : Tag(2, 0) + "\x01";
      return packed ? Delimited(2, message) : message;
    };
    ExpectParsedAsGenerated(shape(kMaxTensorRank));
    for (size_t rank : {kMaxTensorRank + 1, size_t{100000}}) {
      EXPECT_TRUE(v1::WeightChunk().ParseFromString(shape(rank)));
      grpc::ByteBuffer buffer = Sliced(shape(rank), {});
      ReceivedChunk chunk;
      const absl::Status status = chunk.Parse(buffer);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()), HasSubstr("more than 64 dimensions"));
      ExpectNoChunk(chunk);
    }
  }
}

TEST(ChunkParseTest, TextLengthIsBoundedThoughProtobufHasNoLimit) {
  ExpectParsedAsGenerated(Delimited(1, std::string(kMaxChunkHeaderBytes, 'n')));
  grpc::ByteBuffer buffer = Sliced(Delimited(1, std::string(kMaxChunkHeaderBytes + 1, 'n')), {});
  ReceivedChunk chunk;
  EXPECT_EQ(chunk.Parse(buffer).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_LT(chunk.header().name.capacity(), 100u);
}

TEST(ChunkParseTest, TensorsThatFollowAreBoundedThoughProtobufHasNoLimit) {
  const auto names = [](size_t count, size_t bytes) {
    std::string message;
    for (size_t i = 0; i < count; ++i) message += Delimited(7, std::string(bytes, 'n'));
    return message;
  };
  ExpectParsedAsGenerated(names(kMaxFollowingTensors, 0));
  ExpectParsedAsGenerated(names(12, 4096));
  for (const auto& [message, error] :
       {std::pair(names(kMaxFollowingTensors + 1, 0), "more than 4096 tensors follow"),
        std::pair(names(12, 4096) + names(1, 1), "the names that follow exceed 48 KiB")}) {
    grpc::ByteBuffer buffer = Sliced(message, {});
    ReceivedChunk chunk;
    const absl::Status status = chunk.Parse(buffer);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(error));
    ExpectNoChunk(chunk);
  }
  // The limits are of a message, not of all that the object has seen.
  ReceivedChunk chunk;
  for (int i = 0; i < 3; ++i) {
    grpc::ByteBuffer buffer = Sliced(names(10, 4096), {});
    EXPECT_TRUE(chunk.Parse(buffer).ok());
  }
}

TEST(ChunkParseTest, TagOfMoreThan32BitsIsRefusedThoughProtobufDropsTheBits) {
  // Field 2^29 + 1 as text: without its highest bit it would be a name.
  const std::string message = Tag((uint64_t{1} << 29) + 1, 2) + Varint(1) + "x";
  v1::WeightChunk generated;
  ASSERT_TRUE(generated.ParseFromString(message));
  EXPECT_EQ(generated.name(), "x");
  grpc::ByteBuffer buffer = Sliced(message, {});
  ReceivedChunk chunk;
  const absl::Status status = chunk.Parse(buffer);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("above 2^29-1"));
}

TEST(ChunkParseTest, ErrorsNameTheFieldAndTheByte) {
  grpc::ByteBuffer buffer = Sliced(Delimited(1, "w") + Tag(100, 2) + Varint(9) + "x", {});
  ReceivedChunk chunk;
  const std::string message(chunk.Parse(buffer).message());
  EXPECT_THAT(message, AllOf(HasSubstr("(byte 3, field 100 (data))"), HasSubstr("exceeds the bytes that are left"),
                             HasSubstr("send a serialised weightstream.v1.WeightChunk")));
}

TEST(ChunkParseTest, BufferWithoutAMessageIsRefused) {
  grpc::ByteBuffer none;
  ReceivedChunk chunk;
  EXPECT_EQ(chunk.Parse(none).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ChunkParseTest, MessageOver2GiBIsRefused) {
  // The same megabyte, many times: no memory of that size is needed.
  const std::string megabyte(1 << 20, '\0');
  std::vector<grpc::Slice> slices(2048, grpc::Slice(megabyte.data(), megabyte.size(), grpc::Slice::STATIC_SLICE));
  grpc::ByteBuffer buffer(slices.data(), slices.size());
  ReceivedChunk chunk;
  const absl::Status status = chunk.Parse(buffer);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is over 2 GiB"));
  EXPECT_FALSE(buffer.Valid());
}

TEST(ChunkParseTest, NothingOfAnEarlierChunkRemains) {
  ReceivedChunk chunk;
  for (const v1::WeightChunk& generated : {FullChunk(), v1::WeightChunk(), FullChunk()}) {
    grpc::ByteBuffer buffer = Sliced(generated.SerializeAsString(), {});
    ASSERT_TRUE(chunk.Parse(buffer).ok());
    ExpectSameChunk(chunk, generated);
  }
  grpc::ByteBuffer broken = Sliced(FullChunk().SerializeAsString() + "\x07", {});
  EXPECT_FALSE(chunk.Parse(broken).ok());
  ExpectNoChunk(chunk);
}

TEST(ChunkParseTest, CapacityIsKeptFromChunkToChunk) {
  v1::WeightChunk generated = FullChunk();
  generated.set_name(std::string(200, 'n'));
  generated.set_data(std::string(1000, 'd'));
  for (int i = 0; i < 20; ++i) generated.add_shape(i);
  const std::string message = generated.SerializeAsString();
  ReceivedChunk chunk;
  grpc::ByteBuffer first = Sliced(message, {400, 500, 600});
  ASSERT_TRUE(chunk.Parse(first).ok());
  const size_t name_capacity = chunk.header().name.capacity();
  const void* const pieces = chunk.pieces().data();
  chunk.Clear();
  EXPECT_EQ(chunk.header().name.capacity(), name_capacity);
  EXPECT_GE(chunk.header().shape.capacity(), static_cast<size_t>(generated.shape_size()));
  grpc::ByteBuffer second = Sliced(message, {400, 500, 600});
  ASSERT_TRUE(chunk.Parse(second).ok());
  EXPECT_EQ(chunk.pieces().data(), pieces);
  ExpectSameChunk(chunk, generated);
}

// The chunk with a header_crc32c that matches.
std::string Sealed(v1::WeightChunk chunk) {
  const std::string data = chunk.data();
  chunk.clear_data();
  chunk.set_header_crc32c(ExtendCrc32c(0, chunk.SerializeAsString()));
  chunk.set_data(data);
  return chunk.SerializeAsString();
}

TEST(ChunkParseTest, AHeaderThatMatchesItsChecksumIsIntactHoweverItIsSliced) {
  const std::string message = Sealed(FullChunk());
  Random random(7);
  for (int i = 0; i < 200; ++i) {
    grpc::ByteBuffer buffer = RandomlySliced(message, random);
    ReceivedChunk chunk;
    ASSERT_TRUE(chunk.Parse(buffer).ok());
    EXPECT_TRUE(chunk.header().has_header_crc32c);
    EXPECT_TRUE(chunk.CheckIntact().ok());
  }
}

TEST(ChunkParseTest, ABitThatFlipsInTheHeaderIsNeverBelieved) {
  const SilentProtobuf silent;
  const std::string message = Sealed(FullChunk());
  ChunkHeader sent = HeaderOf(FullChunk());
  int damaged = 0;
  for (size_t bit = 0; bit < 8 * message.size(); ++bit) {
    std::string flipped = message;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    grpc::ByteBuffer buffer = Sliced(flipped, {});
    ReceivedChunk chunk;
    if (!chunk.Parse(buffer).ok()) continue;
    if (!chunk.CheckIntact().ok()) {
      EXPECT_EQ(chunk.CheckIntact().code(), absl::StatusCode::kDataLoss);
      ++damaged;
      continue;
    }
    // Where the flip hid the checksum itself, or hit the data, which have a checksum of their own.
    sent.has_header_crc32c = chunk.header().has_header_crc32c;
    EXPECT_TRUE(chunk.header() == sent) << "bit " << bit;
  }
  EXPECT_GT(damaged, 200);
}

TEST(ChunkParseTest, WhatIsMalformedAndDoesNotMatchItsChecksumWasDamaged) {
  const SilentProtobuf silent;
  v1::WeightChunk not_utf8 = FullChunk();
  not_utf8.set_name("\xff");
  std::string damaged = Sealed(FullChunk());
  // The name's first byte, behind its tag and length.
  damaged[2] = static_cast<char>(damaged[2] ^ 0x80);
  Random random(8);
  for (const auto& [message, code] : {std::pair(damaged, absl::StatusCode::kDataLoss),
                                      std::pair(Sealed(not_utf8), absl::StatusCode::kInvalidArgument),
                                      std::pair(not_utf8.SerializeAsString(), absl::StatusCode::kInvalidArgument)}) {
    grpc::ByteBuffer buffer = RandomlySliced(message, random);
    ReceivedChunk chunk;
    EXPECT_EQ(chunk.Parse(buffer).code(), code);
    EXPECT_TRUE(chunk.header() == ChunkHeader());
  }
}

TEST(ChunkParseTest, OfSeveralHeaderChecksumsTheLastCounts) {
  for (const bool intact : {true, false}) {
    v1::WeightChunk chunk;
    chunk.set_header_crc32c(7);
    std::string message = chunk.SerializeAsString();
    const uint32_t right = ExtendCrc32c(0, message);
    chunk.set_header_crc32c(intact ? right : right + 1);
    message += chunk.SerializeAsString();
    grpc::ByteBuffer buffer = Sliced(message, {3, 8});
    ReceivedChunk received;
    ASSERT_TRUE(received.Parse(buffer).ok());
    EXPECT_EQ(received.CheckIntact().ok(), intact);
  }
}

// If each were computed, these would take many minutes, and the test its time limit.
TEST(ChunkParseTest, MillionsOfHeaderChecksumsAreNotEachComputed) {
  v1::WeightChunk chunk;
  chunk.set_header_crc32c(7);
  const std::string field = chunk.SerializeAsString();
  std::string message;
  while (message.size() < (16 << 20)) message += field;
  grpc::ByteBuffer buffer = Sliced(message, {});
  ReceivedChunk received;
  ASSERT_TRUE(received.Parse(buffer).ok());
  EXPECT_FALSE(received.CheckIntact().ok());
}

TEST(ChunkParseTest, AnIntactChunkIsNotBlamedForTheOneBeforeIt) {
  std::string damaged = Sealed(FullChunk());
  damaged[2] ^= 1;
  ReceivedChunk chunk;
  for (const auto& [message, intact] : {std::pair(damaged, false), std::pair(Sealed(FullChunk()), true),
                                        std::pair(FullChunk().SerializeAsString(), true)}) {
    grpc::ByteBuffer buffer = Sliced(message, {});
    ASSERT_TRUE(chunk.Parse(buffer).ok());
    EXPECT_EQ(chunk.CheckIntact().ok(), intact);
  }
}

}  // namespace
}  // namespace weightstream
