// Our encoding and parsing of BeginUpdateRequest against the generated code's.
#include "proto/begin_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "absl/strings/escaping.h"
#include "google/protobuf/wire_format_lite.h"
#include "proto/begin_codec_testing.h"
#include "proto/chunk_codec_testing.h"
#include "proto/convert.h"

namespace weightstream {
namespace {

grpc::ByteBuffer Buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string Bytes(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

std::string RandomText(Random& random, size_t longest) {
  std::string text(Below(random, longest + 1), 'x');
  for (char& byte : text) byte = static_cast<char>('a' + Below(random, 26));
  return text;
}

v1::TensorSpec RandomTensor(Random& random) {
  static const char* const kDTypes[] = {"BF16", "F32", "U8", "BF16", "F8_E4M3", "Q7", ""};
  v1::TensorSpec tensor;
  tensor.set_name(RandomText(random, Below(random, 10) == 0 ? 200 : 20));
  tensor.set_dtype(kDTypes[Below(random, Below(random, 5) == 0 ? std::size(kDTypes) : 4)]);
  const size_t rank = Below(random, 40) == 0 ? 60 + Below(random, 10) : Below(random, 5);
  for (size_t i = 0; i < rank; ++i) tensor.add_shape(random() >> Below(random, 64));
  return tensor;
}

v1::BeginUpdateRequest RandomRequest(Random& random) {
  v1::BeginUpdateRequest request;
  request.set_model(RandomText(random, 8));
  request.set_version(random() >> Below(random, 64));
  for (size_t i = Below(random, 5); i > 0; --i) *request.add_tensors() = RandomTensor(random);
  request.set_bucket_limit_bytes(Below(random, 1 << 20));
  for (size_t i = Below(random, 3); i > 0; --i) (*request.mutable_metadata())[RandomText(random, 4)] = "value";
  request.set_source_id(RandomText(random, 12));
  request.set_takes_everything_missing(Below(random, 2) == 0);
  return request;
}

class BeginCodecTest : public testing::Test {
 protected:
  // Holds the parse to that of the generated code and its conversion.
  void Compare(const std::string& message, const grpc::ByteBuffer& buffer) {
    v1::BeginUpdateRequest generated;
    const bool expected = generated.ParseFromString(message);
    const bool parsed = ParseBeginRequest(buffer, request_);
    // A tag of more than 32 bits is the one thing that we alone refuse: see wire_cursor.h.
    if (expected != parsed && !expected) ADD_FAILURE() << "only we accept";
    if (expected != parsed && expected && !MayHoldWideTag(message)) ADD_FAILURE() << "only we refuse";
    (parsed ? accepted_ : refused_)++;
    if (parsed && expected) CompareFields(generated);
    if (HasFailure()) FAIL() << "message: " << absl::CHexEscape(message);
  }

  void CompareFields(v1::BeginUpdateRequest& generated) {
    const auto specs = FromProto(generated.tensors());
    EXPECT_EQ(request_.manifest.ToString(), specs.status().ToString());
    if (specs.ok()) {
      EXPECT_EQ(request_.tensors, *specs);
    }
    generated.clear_tensors();
    EXPECT_EQ(CanonicalBytes(request_.fields), CanonicalBytes(generated))
        << request_.fields.ShortDebugString() << "\nis not\n"
        << generated.ShortDebugString();
    EXPECT_EQ(request_.model(), generated.model());
  }

  BeginRequest request_;
  int accepted_ = 0;
  int refused_ = 0;

 private:
  SilentProtobuf silent_;
};

TEST_F(BeginCodecTest, RequestsInRandomSlicesGiveTheGeneratedFields) {
  Random random(1);
  for (int i = 0; i < 5000 && !HasFailure(); ++i) {
    const std::string message = RandomRequest(random).SerializeAsString();
    Compare(message, RandomlySliced(message, random));
  }
  EXPECT_EQ(accepted_, 5000);
}

TEST_F(BeginCodecTest, OurEncodingIsWhatTheGeneratedCodeReads) {
  const std::vector<TensorSpec> tensors = {{"b", DType::kBF16, {32, 64}},
                                           {"", DType::kU8, {}},
                                           {std::string(300, 'n'), DType::kF8E4M3FNUZ, {0, uint64_t{1} << 63, 1}},
                                           {"a", DType::kF32, std::vector<uint64_t>(64, 200)}};
  const std::vector<uint32_t> order = {3, 0, 2, 1};
  v1::BeginUpdateRequest fields;
  fields.set_model("m");
  fields.set_version(7);
  (*fields.mutable_metadata())["format"] = "pt";
  v1::BeginUpdateRequest read;
  ASSERT_TRUE(read.ParseFromString(Bytes(EncodeBeginRequest(fields, EncodeManifest(tensors, order)))));
  v1::BeginUpdateRequest expected = fields;
  for (const uint32_t tensor : order) *expected.add_tensors() = ToProto(tensors[tensor]);
  EXPECT_EQ(CanonicalBytes(read), CanonicalBytes(expected)) << read.ShortDebugString();
}

TEST_F(BeginCodecTest, AnEmptyManifestIsARequestWithoutTensors) {
  v1::BeginUpdateRequest fields;
  fields.set_model("m");
  ASSERT_TRUE(ParseBeginRequest(EncodeBeginRequest(fields, EncodeManifest({}, {})), request_));
  EXPECT_TRUE(request_.tensors.empty());
  EXPECT_EQ(request_.model(), "m");
}

// Should it ever get one of a wire type that the parser does not keep.
TEST_F(BeginCodecTest, EveryFieldThatTheMessageHasIsKept) {
  const google::protobuf::Descriptor& descriptor = *v1::BeginUpdateRequest::descriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *descriptor.field(i);
    const auto type = google::protobuf::internal::WireFormatLite::WireTypeForFieldType(
        static_cast<google::protobuf::internal::WireFormatLite::FieldType>(field.type()));
    EXPECT_TRUE(type == google::protobuf::internal::WireFormatLite::WIRETYPE_VARINT ||
                type == google::protobuf::internal::WireFormatLite::WIRETYPE_LENGTH_DELIMITED)
        << field.full_name();
  }
}

TEST_F(BeginCodecTest, AManifestEndsBeforeTheFirstTensorThatThereCannotBe) {
  v1::BeginUpdateRequest sent;
  *sent.add_tensors() = ToProto({"first", DType::kU8, {1}});
  sent.add_tensors()->set_name("second");
  sent.mutable_tensors(1)->set_dtype("Q7");
  sent.add_tensors()->set_name("third");
  ASSERT_TRUE(ParseBeginRequest(Buffer(sent.SerializeAsString()), request_));
  EXPECT_EQ(request_.tensors, (std::vector<TensorSpec>{{"first", DType::kU8, {1}}}));
  EXPECT_TRUE(absl::IsInvalidArgument(request_.manifest));
  EXPECT_NE(request_.manifest.message().find("second"), absl::string_view::npos) << request_.manifest;
}

// A message as our encoder makes it: the tensors last.
std::string TensorsLast(const v1::BeginUpdateRequest& request) {
  v1::BeginUpdateRequest fields = request;
  v1::BeginUpdateRequest tensors;
  tensors.mutable_tensors()->Swap(fields.mutable_tensors());
  return fields.SerializeAsString() + tensors.SerializeAsString();
}

TEST_F(BeginCodecTest, AManifestThatIsKnownIsNotRead) {
  Random random(5);
  for (int i = 0; i < 500; ++i) {
    v1::BeginUpdateRequest sent = RandomRequest(random);
    *sent.add_tensors() = ToProto({"t", DType::kU8, {1}});
    const std::string message = TensorsLast(sent);
    ASSERT_TRUE(ParseBeginRequest(RandomlySliced(message, random), request_));
    EXPECT_FALSE(request_.is_known);
    const std::string wire = request_.wire;
    ASSERT_FALSE(wire.empty());
    // A std::string has some room in itself, and then takes twice that at least.
    EXPECT_LE(request_.wire.capacity(), std::max(wire.size(), 2 * std::string().capacity()));
    EXPECT_EQ(message.substr(message.size() - wire.size()), wire);

    const auto known = [&](const v1::BeginUpdateRequest& fields) {
      EXPECT_EQ(fields.model(), sent.model());
      return absl::string_view(wire);
    };
    ASSERT_TRUE(ParseBeginRequest(RandomlySliced(message, random), request_, known));
    EXPECT_TRUE(request_.is_known);
    EXPECT_TRUE(request_.tensors.empty());
    EXPECT_TRUE(request_.wire.empty());
    sent.clear_tensors();
    EXPECT_EQ(CanonicalBytes(request_.fields), CanonicalBytes(sent));
  }
}

TEST_F(BeginCodecTest, AManifestOfWhichOneByteIsAnotherIsRead) {
  Random random(6);
  v1::BeginUpdateRequest sent;
  sent.set_model("m");
  for (const char* name : {"first", "second"}) *sent.add_tensors() = ToProto({name, DType::kU8, {1}});
  const std::string message = TensorsLast(sent);
  ASSERT_TRUE(ParseBeginRequest(Buffer(message), request_));
  const std::string wire = request_.wire;
  for (size_t i = 0; i <= wire.size(); ++i) {
    std::string other = wire;
    i == wire.size() ? other.push_back('\n') : static_cast<void>(other[i] ^= 1);
    const auto known = [&](const v1::BeginUpdateRequest&) { return absl::string_view(other); };
    ASSERT_TRUE(ParseBeginRequest(RandomlySliced(message, random), request_, known));
    EXPECT_FALSE(request_.is_known);
    EXPECT_EQ(request_.tensors.size(), 2u);
    EXPECT_EQ(request_.wire, wire);
  }
}

// What comes behind would be missed.
TEST_F(BeginCodecTest, AManifestBeforeOtherFieldsIsNotKept) {
  v1::BeginUpdateRequest sent;
  sent.set_model("m");
  *sent.add_tensors() = ToProto({"t", DType::kU8, {1}});
  sent.set_source_id("s");
  ASSERT_TRUE(ParseBeginRequest(Buffer(sent.SerializeAsString()), request_));
  EXPECT_TRUE(request_.wire.empty());
  EXPECT_EQ(request_.wire.capacity(), std::string().capacity()) << "nor is its memory";
  EXPECT_EQ(request_.tensors.size(), 1u);
  EXPECT_EQ(request_.fields.source_id(), "s");
}

TEST_F(BeginCodecTest, TruncationAtEveryByteIsJudgedAlike) {
  Random random(3);
  for (int i = 0; i < 50; ++i) {
    const std::string message = RandomRequest(random).SerializeAsString();
    for (size_t length = 0; length <= message.size() && !HasFailure(); ++length) {
      const std::string cut = message.substr(0, length);
      Compare(cut, RandomlySliced(cut, random));
    }
  }
  EXPECT_GT(accepted_, 100);
  EXPECT_GT(refused_, 100);
}

// Bytes at which parsers turn: borders of varints, our tags, groups, bad wire types.
char TellingByte(Random& random) {
  constexpr unsigned char kBytes[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x07, 0x08, 0x0a, 0x0b, 0x0c, 0x10, 0x12,
                                      0x18, 0x1a, 0x1b, 0x20, 0x2a, 0x32, 0x7f, 0x80, 0xa0, 0xc3, 0xff};
  return static_cast<char>(kBytes[Below(random, std::size(kBytes))]);
}

TEST_F(BeginCodecTest, DamagedRequestsAreJudgedAlike) {
  Random random(4);
  for (int i = 0; i < 40000 && !HasFailure(); ++i) {
    std::string message = RandomRequest(random).SerializeAsString();
    for (size_t damages = 1 + Below(random, 3); damages > 0; --damages) {
      const size_t at = Below(random, message.size() + 1);
      const size_t length = Below(random, std::min<size_t>(message.size() - at, 8) + 1);
      switch (Below(random, 4)) {
        case 0:
          message.erase(at, length);
          break;
        case 1:
          message.insert(at, message.substr(at, length));
          break;
        case 2:
          message.insert(at, 1, TellingByte(random));
          break;
        default:
          if (at < message.size()) message[at] = TellingByte(random);
      }
    }
    Compare(message, RandomlySliced(message, random));
  }
  EXPECT_GT(accepted_, 5000);
  EXPECT_GT(refused_, 5000);
}

}  // namespace
}  // namespace weightstream
