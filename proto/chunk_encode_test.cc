// What EncodeChunk promises: the generated serializer's bytes, no copy of the data, and one call of `released`.
#include <grpcpp/support/byte_buffer.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/chunk_codec.h"
#include "proto/chunk_codec_testing.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

// Encodes with our encoder and compares with the generated one, bit for bit.
void ExpectEncodedAsGenerated(const v1::WeightChunk& chunk) {
  const grpc::ByteBuffer encoded = EncodeChunk(HeaderOf(chunk), chunk.data(), nullptr);
  ASSERT_TRUE(encoded.Valid());
  ASSERT_TRUE(Joined(encoded) == chunk.SerializeAsString()) << chunk.ShortDebugString();
  v1::WeightChunk parsed;
  ASSERT_TRUE(parsed.ParseFromString(Joined(encoded)));
  EXPECT_EQ(parsed.SerializeAsString(), chunk.SerializeAsString());
}

TEST(ChunkEncodeTest, DefaultChunkHasNoBytes) { ExpectEncodedAsGenerated(v1::WeightChunk()); }

TEST(ChunkEncodeTest, ChecksumOfZeroIsWrittenBecauseItIsPresent) {
  v1::WeightChunk chunk;
  chunk.set_crc32c(0);
  ExpectEncodedAsGenerated(chunk);
  ChunkHeader header;
  header.crc32c = 0;
  EXPECT_EQ(EncodeChunk(header, "", nullptr).Length(), 5u);
}

TEST(ChunkEncodeTest, ScalarShapeOfOneZeroIsWritten) {
  v1::WeightChunk chunk;
  chunk.add_shape(0);
  ExpectEncodedAsGenerated(chunk);
}

TEST(ChunkEncodeTest, NumbersOfEveryLengthMatchTheGeneratedBytes) {
  for (int bits = 0; bits < 64; ++bits) {
    for (uint64_t number : {(uint64_t{1} << bits) - 1, uint64_t{1} << bits, UINT64_MAX >> bits}) {
      v1::WeightChunk chunk;
      chunk.set_offset(number);
      chunk.add_shape(number);
      chunk.add_shape(number);
      ExpectEncodedAsGenerated(chunk);
    }
  }
}

TEST(ChunkEncodeTest, LengthsAroundTheVarintBordersMatchTheGeneratedBytes) {
  for (size_t length : {1, 127, 128, 16383, 16384, 2097151, 2097152}) {
    v1::WeightChunk chunk;
    chunk.set_data(std::string(length, 'x'));
    ExpectEncodedAsGenerated(chunk);
    if (length < 20000) chunk.set_name(std::string(length, 'n'));
    ExpectEncodedAsGenerated(chunk);
  }
}

TEST(ChunkEncodeTest, RandomChunksMatchTheGeneratedBytes) {
  Random random(20240601);
  for (int i = 0; i < 5000; ++i) {
    ExpectEncodedAsGenerated(RandomChunk(random));
    if (HasFailure()) FAIL() << "at chunk " << i;
  }
}

TEST(ChunkEncodeTest, DataAreBorrowedNotCopied) {
  const std::string data(1 << 20, 'd');
  ChunkHeader header;
  header.name = "layer.0";
  for (bool told : {false, true}) {
    const grpc::ByteBuffer encoded = EncodeChunk(header, data, told ? [] {} : std::function<void()>());
    std::vector<grpc::Slice> slices;
    ASSERT_TRUE(encoded.Dump(&slices).ok());
    ASSERT_EQ(slices.size(), 2u);
    EXPECT_EQ(static_cast<const void*>(slices[1].begin()), data.data());
    EXPECT_EQ(slices[1].size(), data.size());
  }
}

TEST(ChunkEncodeTest, OwnedDataAreEncodedAsBorrowedOnes) {
  ChunkHeader header;
  header.name = "a";
  header.followed_by = {"b", "", "c"};
  for (const std::string& data : {std::string(), std::string("d"), std::string(100000, 'd')}) {
    EXPECT_EQ(Joined(EncodeChunk(header, grpc::Slice(data))), Joined(EncodeChunk(header, data, [] {})));
  }
}

TEST(ChunkEncodeTest, EvenOneByteIsBorrowed) {
  const std::string data = "d";
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(EncodeChunk(ChunkHeader(), data, [] {}).Dump(&slices).ok());
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(static_cast<const void*>(slices[1].begin()), data.data());
}

TEST(ChunkEncodeTest, ReleasedIsCalledOnceWhenAnUnsentBufferIsDropped) {
  int released = 0;
  const std::string data = "data";
  {
    const grpc::ByteBuffer encoded = EncodeChunk(ChunkHeader(), data, [&released] { ++released; });
    EXPECT_EQ(released, 0);
  }
  EXPECT_EQ(released, 1);
}

TEST(ChunkEncodeTest, ReleasedWaitsForTheLastCopyOfTheBuffer) {
  int released = 0;
  const std::string data = "data";
  grpc::ByteBuffer encoded = EncodeChunk(ChunkHeader(), data, [&released] { ++released; });
  grpc::ByteBuffer copy = encoded;
  encoded.Clear();
  EXPECT_EQ(released, 0);
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(copy.Dump(&slices).ok());
  copy.Clear();
  EXPECT_EQ(released, 0);
  slices.clear();
  EXPECT_EQ(released, 1);
}

TEST(ChunkEncodeTest, ReleasedWaitsForAReceivedChunkOnTheSameSlices) {
  int released = 0;
  const std::string data(100, 'd');
  grpc::ByteBuffer encoded = EncodeChunk(ChunkHeader(), data, [&released] { ++released; });
  ReceivedChunk chunk;
  ASSERT_TRUE(chunk.Parse(encoded).ok());
  ASSERT_EQ(chunk.pieces().size(), 1u);
  EXPECT_EQ(chunk.pieces()[0].data(), data.data());
  EXPECT_EQ(released, 0);
  chunk.Clear();
  EXPECT_EQ(released, 1);
}

TEST(ChunkEncodeTest, ReleasedIsCalledBeforeTheReturnWhereThereAreNoData) {
  int released = 0;
  const grpc::ByteBuffer encoded = EncodeChunk(ChunkHeader(), "", [&released] { ++released; });
  EXPECT_EQ(released, 1);
}

TEST(ChunkEncodeTest, CallbackIsDestroyedOnceItWasCalled) {
  const std::string data = "data";
  auto owner = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = owner;
  grpc::ByteBuffer encoded = EncodeChunk(ChunkHeader(), data, [owner = std::move(owner)] { ++*owner; });
  EXPECT_FALSE(watch.expired());
  encoded.Clear();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace weightstream
