#include "proto/chunk_codec_testing.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"

namespace weightstream {
namespace {

std::string RandomBytes(Random& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string RandomText(Random& random, size_t max_characters) {
  constexpr absl::string_view kCharacters[] = {"a", "layers.", "%", "\n", "\u00e9", "\u20ac", "\U0001f600"};
  std::string text;
  for (size_t i = Below(random, max_characters + 1); i > 0; --i) {
    absl::StrAppend(&text, kCharacters[Below(random, std::size(kCharacters))]);
  }
  return text;
}

// Every encoded length from 1 to 10 bytes is as likely.
uint64_t RandomNumber(Random& random) { return random() >> Below(random, 64); }

}  // namespace

uint64_t Below(Random& random, uint64_t limit) { return random() % limit; }

v1::WeightChunk RandomChunk(Random& random) {
  v1::WeightChunk chunk;
  const uint64_t present = random();
  if (present & 1) chunk.set_name(RandomText(random, Below(random, 8) == 0 ? 500 : 8));
  if (present & 2) {
    for (size_t i = Below(random, 12); i > 0; --i) chunk.add_shape(Below(random, 4) ? RandomNumber(random) : 0);
  }
  if (present & 4) chunk.set_dtype(RandomText(random, 3));
  if (present & 8) chunk.set_offset(RandomNumber(random));
  if (present & 16) chunk.set_crc32c(Below(random, 3) ? static_cast<uint32_t>(random()) : 0);
  if (present & 32) chunk.set_update_id(RandomText(random, 4));
  if (present & 128) {
    for (size_t i = Below(random, 5); i > 0; --i) chunk.add_followed_by(RandomText(random, 8));
  }
  // Of what was set so far.
  if (present & 256) chunk.set_header_crc32c(ExtendCrc32c(0, chunk.SerializeAsString()));
  if (present & 64) chunk.set_data(RandomBytes(random, Below(random, Below(random, 8) == 0 ? 20000 : 200)));
  return chunk;
}

ChunkHeader HeaderOf(const v1::WeightChunk& chunk) {
  ChunkHeader header;
  header.name = chunk.name();
  header.shape.assign(chunk.shape().begin(), chunk.shape().end());
  header.dtype = chunk.dtype();
  header.offset = chunk.offset();
  if (chunk.has_crc32c()) header.crc32c = chunk.crc32c();
  header.update_id = chunk.update_id();
  header.followed_by.assign(chunk.followed_by().begin(), chunk.followed_by().end());
  header.has_header_crc32c = chunk.has_header_crc32c();
  return header;
}

grpc::ByteBuffer Sliced(absl::string_view message, const std::vector<size_t>& borders) {
  std::vector<grpc::Slice> slices;
  size_t begin = 0;
  for (size_t border : borders) {
    slices.emplace_back(message.data() + begin, border - begin);
    begin = border;
  }
  slices.emplace_back(message.data() + begin, message.size() - begin);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

grpc::ByteBuffer RandomlySliced(absl::string_view message, Random& random) {
  std::vector<size_t> borders(Below(random, 10));
  for (size_t& border : borders) border = Below(random, message.size() + 1);
  std::sort(borders.begin(), borders.end());
  return Sliced(message, borders);
}

std::string Joined(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

std::string DataOf(const ReceivedChunk& chunk) {
  std::string data;
  for (absl::string_view piece : chunk.pieces()) {
    EXPECT_FALSE(piece.empty());
    absl::StrAppend(&data, piece);
  }
  return data;
}

void ExpectSameChunk(const ReceivedChunk& received, const v1::WeightChunk& generated) {
  const ChunkHeader expected = HeaderOf(generated);
  EXPECT_EQ(received.header().name, expected.name);
  EXPECT_EQ(received.header().shape, expected.shape);
  EXPECT_EQ(received.header().dtype, expected.dtype);
  EXPECT_EQ(received.header().offset, expected.offset);
  EXPECT_TRUE(received.header().crc32c == expected.crc32c);
  EXPECT_EQ(received.header().update_id, expected.update_id);
  EXPECT_EQ(received.header().followed_by, expected.followed_by);
  EXPECT_EQ(received.header().has_header_crc32c, expected.has_header_crc32c);
  EXPECT_EQ(received.data_bytes(), generated.data().size());
  EXPECT_TRUE(DataOf(received) == generated.data()) << "data differ";
}

void ExpectNoChunk(const ReceivedChunk& chunk) {
  EXPECT_TRUE(chunk.header() == ChunkHeader());
  EXPECT_TRUE(chunk.pieces().empty());
  EXPECT_EQ(chunk.data_bytes(), 0u);
}

}  // namespace weightstream
