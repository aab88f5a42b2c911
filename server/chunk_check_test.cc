#include "server/chunk_check.h"

#include <limits>

#include "gtest/gtest.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

class ChunkCheckTest : public testing::Test {
 protected:
  // A chunk of "weight" that is in order.
  static ChunkHeader GoodHeader() {
    ChunkHeader header;
    header.name = "weight";
    header.dtype = "F32";
    header.shape = {4, 8};
    header.offset = 64;
    header.crc32c = 0xabcd;
    return header;
  }

  absl::Status Check(const ChunkHeader& header, uint64_t bytes) const {
    return CheckChunk(*update_, header, bytes).status();
  }

  // "weight" has 128 bytes.
  const std::shared_ptr<Update> update_ =
      MemoryUpdate({{"weight", DType::kF32, {4, 8}}, {"scalar", DType::kF32, {}}, ByteTensor("empty", 0)},
                   /*bucket_limit_bytes=*/100);
};

TEST_F(ChunkCheckTest, AGoodChunkIsPlaced) {
  const absl::StatusOr<CheckedChunk> checked = CheckChunk(*update_, GoodHeader(), 32);
  ASSERT_TRUE(checked.ok()) << checked.status();
  ASSERT_EQ(checked->parts.size(), 1u);
  EXPECT_EQ(update_->layout().tensors[checked->parts[0].tensor].spec.name, "weight");
  EXPECT_EQ(checked->parts[0].range, (ByteRange{64, 96}));
  EXPECT_EQ(checked->bytes, 32u);
  EXPECT_EQ(checked->crc32c, 0xabcdu);
}

TEST_F(ChunkCheckTest, AChunkMayEndExactlyAtTheTensorsEnd) {
  EXPECT_TRUE(Check(GoodHeader(), 64).ok());
  ExpectError(Check(GoodHeader(), 65), StatusCode::kInvalidArgument,
              {"'weight'", "65 bytes from offset 64", "past the tensor's end at 128"});
}

TEST_F(ChunkCheckTest, ScalarsAndEmptyTensorsAreTensors) {
  ChunkHeader header = GoodHeader();
  header.name = "scalar";
  header.shape = {};
  header.offset = 0;
  EXPECT_TRUE(Check(header, 4).ok());
  header.name = "empty";
  header.dtype = "U8";
  header.shape = {0};
  EXPECT_TRUE(Check(header, 0).ok());
  EXPECT_FALSE(Check(header, 1).ok());
}

TEST_F(ChunkCheckTest, UnknownTensorIsRefused) {
  ChunkHeader header = GoodHeader();
  header.name = "bias\n";
  ExpectError(Check(header, 4), StatusCode::kInvalidArgument,
              {"'bias\\x0a'", "version 1 of model 'm' has no such tensor", "BeginUpdate named"});
  header.name = "";
  ExpectError(Check(header, 4), StatusCode::kInvalidArgument, {"no such tensor"});
}

TEST_F(ChunkCheckTest, DtypeThatContradictsTheManifestIsRefused) {
  for (const char* dtype : {"I32", "f32", "", "BF16"}) {
    ChunkHeader header = GoodHeader();
    header.dtype = dtype;
    ExpectError(Check(header, 4), StatusCode::kInvalidArgument, {"'weight'", "the manifest says F32[4, 8]"});
  }
}

TEST_F(ChunkCheckTest, ShapeThatContradictsTheManifestIsRefused) {
  using Shape = absl::InlinedVector<uint64_t, 8>;
  // The same size in another shape, more and fewer dimensions, none.
  for (const Shape& shape : {Shape{8, 4}, Shape{32}, Shape{4, 8, 1}, Shape{4}, Shape{}}) {
    ChunkHeader header = GoodHeader();
    header.shape = shape;
    ExpectError(Check(header, 4), StatusCode::kInvalidArgument, {"'weight'", "says F32[", "F32[4, 8]"});
  }
}

TEST_F(ChunkCheckTest, MoreThanTheBucketLimitIsResourceExhausted) {
  ChunkHeader header = GoodHeader();
  header.offset = 0;
  EXPECT_TRUE(Check(header, 100).ok());
  ExpectError(Check(header, 101), StatusCode::kResourceExhausted,
              {"'weight'", "101 bytes", "bucket limit of 100", "smaller chunks"});
}

TEST_F(ChunkCheckTest, OffsetsThatWrapAroundAreRefused) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  // Past the end; negative after a cast to signed; offset plus size overflows to something small.
  for (const uint64_t offset : {uint64_t{129}, uint64_t{1} << 63, kMax, kMax - 3, kMax - 31}) {
    ChunkHeader header = GoodHeader();
    header.offset = offset;
    ExpectError(Check(header, 32), StatusCode::kInvalidArgument, {"'weight'", "past the tensor's end at 128"});
  }
  ChunkHeader header = GoodHeader();
  header.offset = 128;
  EXPECT_TRUE(Check(header, 0).ok());
  header.offset = 129;
  EXPECT_FALSE(Check(header, 0).ok());
}

TEST_F(ChunkCheckTest, TensorsThatFollowArePlacedWholeBehindTheNamedOnesEnd) {
  ChunkHeader header = GoodHeader();
  header.followed_by = {"scalar", "empty"};
  const absl::StatusOr<CheckedChunk> checked = CheckChunk(*update_, header, 68);
  ASSERT_TRUE(checked.ok()) << checked.status();
  ASSERT_EQ(checked->parts.size(), 3u);
  EXPECT_EQ(checked->parts[0].range, (ByteRange{64, 128}));
  EXPECT_EQ(update_->layout().tensors[checked->parts[1].tensor].spec.name, "scalar");
  EXPECT_EQ(checked->parts[1].range, (ByteRange{0, 4}));
  EXPECT_EQ(checked->parts[2].range, (ByteRange{0, 0}));
  EXPECT_EQ(checked->bytes, 68u);
}

TEST_F(ChunkCheckTest, TensorsThatFollowMustBeKnownAndFillTheData) {
  ChunkHeader header = GoodHeader();
  header.followed_by = {"scalar", "nobody"};
  ExpectError(Check(header, 70), StatusCode::kInvalidArgument, {"'weight'", "no tensor 'nobody'"});
  header.followed_by = {"scalar"};
  ExpectError(Check(header, 67), StatusCode::kInvalidArgument,
              {"'weight' and the 1 that follow it carries 67 bytes", "68", "whole"});
  ExpectError(Check(header, 69), StatusCode::kInvalidArgument, {"carries 69 bytes, but they have 68"});
  ExpectError(Check(header, 101), StatusCode::kResourceExhausted, {"bucket limit of 100"});
  header.offset = 129;
  ExpectError(Check(header, 4), StatusCode::kInvalidArgument, {"starts at offset 129", "end at 128"});
  // However often one is named, the sum is never taken further than the data reach.
  header = GoodHeader();
  header.followed_by.assign(4000, "weight");
  ExpectError(Check(header, 100), StatusCode::kInvalidArgument, {"or more"});
}

TEST_F(ChunkCheckTest, AChunkWithoutChecksumIsRefused) {
  ChunkHeader header = GoodHeader();
  header.crc32c.reset();
  ExpectError(Check(header, 4), StatusCode::kInvalidArgument, {"'weight' at offset 64", "no crc32c"});
  header.crc32c = 0;
  EXPECT_TRUE(Check(header, 4).ok()) << "0 is a checksum";
}

}  // namespace
}  // namespace weightstream
