#include "client/pace.h"

#include <gtest/gtest.h>

#include "client/defaults.h"

namespace weightstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;

TEST(PaceTest, NearOneStreamAndChunksThatStayInTheCache) {
  for (const absl::Duration near : {absl::ZeroDuration(), absl::Microseconds(200), absl::Milliseconds(4.9)}) {
    const Pace pace = ChoosePace(near, {.bucket_limit_bytes = 4 * kMiB, .connections = 2});
    EXPECT_EQ(pace.chunk_bytes, kMiB);
    EXPECT_EQ(pace.connections, 2);
    EXPECT_EQ(pace.streams_per_connection, 1);
  }
  EXPECT_EQ(ChoosePace(absl::ZeroDuration(), {.bucket_limit_bytes = 1000}).chunk_bytes, 1000u) << "the server's limit";
  EXPECT_EQ(ChoosePace(absl::ZeroDuration(), {.bucket_limit_bytes = 4 * kMiB, .chunk_size_given = true}).chunk_bytes,
            4 * kMiB)
      << "what is given is used";
}

TEST(PaceTest, SmallerChunksWhereEachProcessorHasBothEndsOfAConnection) {
  const auto chunk = [](int shared_processors, int connections, int servers_here = 1) {
    return ChoosePace(absl::ZeroDuration(), {.bucket_limit_bytes = 4 * kMiB,
                                             .connections = connections,
                                             .shared_processors = shared_processors,
                                             .servers_here = servers_here})
        .chunk_bytes;
  };
  EXPECT_EQ(chunk(2, 2), kPairedChunkBytes);
  EXPECT_EQ(chunk(3, 2), kMiB) << "one processor to spare";
  EXPECT_EQ(chunk(4, 2), kMiB) << "each thread has a processor";
  EXPECT_EQ(chunk(2, 3), kMiB) << "they take turns";
  EXPECT_EQ(chunk(2, 1), kMiB);
  EXPECT_EQ(chunk(1, 1), kPairedChunkBytes);
  EXPECT_EQ(chunk(2, 1, /*servers_here=*/2), kPairedChunkBytes);
  EXPECT_EQ(chunk(2, 2, /*servers_here=*/4), kMiB);
  EXPECT_EQ(chunk(0, 8), kMiB) << "another machine, for all that is known";
  const PaceWishes given = {
      .bucket_limit_bytes = 2 * kMiB, .chunk_size_given = true, .connections = 2, .shared_processors = 2};
  EXPECT_EQ(ChoosePace(absl::ZeroDuration(), given).chunk_bytes, 2 * kMiB);
  EXPECT_EQ(ChoosePace(absl::ZeroDuration(), {.bucket_limit_bytes = 1000, .connections = 2, .shared_processors = 2})
                .chunk_bytes,
            1000u);
}

TEST(PaceTest, FarMoreThanFourConnectionsShareWhatFourWouldHave) {
  const auto streams = [](absl::Duration round_trip, int connections) {
    return ChoosePace(round_trip,
                      {.bucket_limit_bytes = 4 * kMiB, .connections = connections, .connections_given = true})
        .streams_per_connection;
  };
  EXPECT_EQ(streams(absl::Milliseconds(50), 4), 4);
  EXPECT_EQ(streams(absl::Milliseconds(100), 4), 8);
  EXPECT_EQ(streams(absl::Milliseconds(50), 8), 2);
  EXPECT_EQ(streams(absl::Milliseconds(100), 8), 4);
  EXPECT_EQ(streams(absl::Milliseconds(50), 64), 2) << "one would stand still";
}

TEST(PaceTest, FarAsManyStreamsAsKeepTheConnectionFull) {
  const auto streams = [](absl::Duration round_trip, uint64_t bucket) {
    const Pace pace = ChoosePace(round_trip, {.bucket_limit_bytes = bucket});
    EXPECT_EQ(pace.chunk_bytes, bucket);
    return pace.streams_per_connection;
  };
  EXPECT_EQ(streams(absl::Milliseconds(5), 4 * kMiB), 2);
  EXPECT_EQ(streams(absl::Milliseconds(50), 4 * kMiB), 4);
  EXPECT_EQ(streams(absl::Milliseconds(50), kMiB), 15);
  EXPECT_EQ(streams(absl::Seconds(3), 4 * kMiB), 16);
  EXPECT_EQ(streams(absl::Milliseconds(50), 1), 16);
}

TEST(PaceTest, FarMoreConnectionsUnlessTheyAreGivenOrTheWorkIsSmall) {
  const auto connections = [](int wanted, bool given) {
    return ChoosePace(absl::Milliseconds(50),
                      {.bucket_limit_bytes = 4 * kMiB, .connections = wanted, .connections_given = given})
        .connections;
  };
  EXPECT_EQ(connections(2, false), 4);
  EXPECT_EQ(connections(1, false), 1);
  EXPECT_EQ(connections(2, true), 2);
  EXPECT_EQ(connections(8, true), 8);
}

}  // namespace
}  // namespace weightstream
