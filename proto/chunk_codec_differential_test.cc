// Our parser against the generated one on thousands of valid, mutated, truncated and random messages: they must agree
// on what is a chunk, and on every field of it.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "proto/chunk_codec.h"
#include "proto/chunk_codec_testing.h"
#include "tensor/spec.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

// The three deliberate differences, each refused by us and taken by protobuf; chunk_parse_test.cc says why.
bool DeliberatelyRefused(const v1::WeightChunk& generated, const absl::Status& status) {
  return static_cast<size_t>(generated.shape_size()) > kMaxTensorRank ||
         absl::StrContains(status.message(), "2^29-1") || absl::StrContains(status.message(), "longer than 64 KiB");
}

// What cannot be parsed and does not match its checksum was damaged: DATA_LOSS. Field 99, of four bytes.
bool HasHeaderChecksum(absl::string_view message) { return absl::StrContains(message, "\x9d\x06"); }

class ChunkDifferentialTest : public testing::Test {
 protected:
  void Compare(const std::string& message, grpc::ByteBuffer buffer) {
    v1::WeightChunk generated;
    const bool accepted = generated.ParseFromString(message);
    // One object for all, so that what an earlier chunk left behind would show.
    const absl::Status status = chunk_.Parse(buffer);
    if (status.ok()) {
      ++accepted_;
      EXPECT_TRUE(accepted) << "only we accept";
      ExpectSameChunk(chunk_, generated);
    } else {
      ++refused_;
      EXPECT_TRUE(absl::IsInvalidArgument(status) || (absl::IsDataLoss(status) && HasHeaderChecksum(message)))
          << status;
      EXPECT_TRUE(!accepted || DeliberatelyRefused(generated, status)) << "only we refuse: " << status;
      ExpectNoChunk(chunk_);
    }
    if (HasFailure()) FAIL() << "message: " << absl::CHexEscape(message);
  }

  // Both outcomes must be common, or the comparison shows nothing.
  void ExpectBothOutcomes(int least) const {
    EXPECT_GT(accepted_, least);
    EXPECT_GT(refused_, least);
  }

  ReceivedChunk chunk_;
  int accepted_ = 0;
  int refused_ = 0;

 private:
  SilentProtobuf silent_;
};

// Bytes at which parsers turn: borders of varints, our tags, groups, bad wire types.
char TellingByte(Random& random) {
  constexpr unsigned char kBytes[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x07, 0x08, 0x0a, 0x10, 0x12, 0x1a, 0x20,
                                      0x22, 0x2d, 0x32, 0x3b, 0x3c, 0x7f, 0x80, 0x81, 0xa2, 0x06, 0xc3, 0xff};
  return static_cast<char>(kBytes[Below(random, std::size(kBytes))]);
}

void Mutate(std::string& message, Random& random) {
  const size_t at = Below(random, message.size() + 1);
  const size_t length = Below(random, std::min<size_t>(message.size() - at, 12) + 1);
  switch (Below(random, 7)) {
    case 0:
      message.resize(at);
      break;
    case 1:
      message.erase(at, length);
      break;
    case 2:
      message.insert(Below(random, message.size() + 1), message.substr(at, length));
      break;
    case 3:
      message.insert(at, 1, TellingByte(random));
      break;
    case 4:
      message += RandomChunk(random).SerializeAsString();
      break;
    case 5:
      if (at < message.size()) message[at] = static_cast<char>(message[at] ^ (1 << Below(random, 8)));
      break;
    default:
      if (at < message.size()) message[at] = TellingByte(random);
  }
}

TEST_F(ChunkDifferentialTest, ValidChunksInRandomSlicesGiveTheGeneratedFields) {
  Random random(1);
  for (int i = 0; i < 5000 && !HasFailure(); ++i) {
    const std::string message = RandomChunk(random).SerializeAsString();
    Compare(message, RandomlySliced(message, random));
  }
  EXPECT_EQ(accepted_, 5000);
}

TEST_F(ChunkDifferentialTest, OurOwnEncodingsGiveTheGeneratedFields) {
  Random random(2);
  for (int i = 0; i < 5000 && !HasFailure(); ++i) {
    const v1::WeightChunk chunk = RandomChunk(random);
    Compare(chunk.SerializeAsString(), EncodeChunk(HeaderOf(chunk), chunk.data(), nullptr));
  }
  EXPECT_EQ(accepted_, 5000);
}

TEST_F(ChunkDifferentialTest, TruncationAtEveryByteIsJudgedAlike) {
  Random random(3);
  for (int i = 0; i < 50; ++i) {
    const std::string message = RandomChunk(random).SerializeAsString().substr(0, 1000);
    for (size_t length = 0; length <= message.size() && !HasFailure(); ++length) {
      const std::string cut = message.substr(0, length);
      Compare(cut, RandomlySliced(cut, random));
    }
  }
  ExpectBothOutcomes(100);
}

TEST_F(ChunkDifferentialTest, MutatedChunksAreJudgedAlike) {
  Random random(4);
  for (int i = 0; i < 60000 && !HasFailure(); ++i) {
    std::string message = RandomChunk(random).SerializeAsString();
    if (message.size() > 600) continue;
    for (size_t mutations = 1 + Below(random, 4); mutations > 0; --mutations) Mutate(message, random);
    Compare(message, RandomlySliced(message, random));
  }
  ExpectBothOutcomes(5000);
}

TEST_F(ChunkDifferentialTest, RandomTellingBytesAreJudgedAlike) {
  Random random(5);
  for (int i = 0; i < 100000 && !HasFailure(); ++i) {
    std::string message(Below(random, 14), '\0');
    for (char& byte : message) byte = TellingByte(random);
    Compare(message, RandomlySliced(message, random));
  }
  ExpectBothOutcomes(5000);
}

}  // namespace
}  // namespace weightstream
