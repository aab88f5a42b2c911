#include "server/update.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

void LandAll(Update& update) {
  for (const auto& missing : update.ranges().Missing()) {
    for (const ByteRange& range : missing.ranges)
      update.ranges().Land(update.ranges().Claim({{missing.tensor, range}}));
  }
}

TEST(UpdateTest, TensorsAreFoundByNameAtTheirPlaceInTheLayout) {
  const auto update = MemoryUpdate({ByteTensor("b", 3), {"a", DType::kF32, {2}}, ByteTensor("empty", 0)});
  EXPECT_FALSE(update->FindTensor("c").has_value());
  for (const char* name : {"a", "b"}) {
    const auto index = update->FindTensor(name);
    ASSERT_TRUE(index.has_value()) << name;
    EXPECT_EQ(update->layout().tensors[*index].spec.name, name);
  }
}

TEST(UpdateTest, CommitBeforeCompleteNamesWhatIsMissing) {
  const auto update = MemoryUpdate({ByteTensor("first", 10), ByteTensor("second", 20)});
  update->ranges().Land(update->ranges().Claim({{0, {0, 4}}}));
  ExpectError(update->StartCommit(), StatusCode::kFailedPrecondition,
              {"version 1 of model 'm' is not complete", "26 of 30 bytes in 2 tensors", "'first' [4, 10)",
               "'second' [0, 20)", "BeginUpdate again"});
  EXPECT_EQ(update->state(), UpdateState::kReceiving) << "it can still be completed";
}

TEST(UpdateTest, CommitErrorNamesAFewRangesNotAll) {
  std::vector<TensorSpec> tensors;
  for (const char* name : {"t0", "t1", "t2", "t3", "t4"}) tensors.push_back(ByteTensor(name, 1));
  const absl::Status status = MemoryUpdate(tensors)->StartCommit();
  ExpectError(status, StatusCode::kFailedPrecondition, {"5 tensors", "'t2' [0, 1), ...)"});
  EXPECT_EQ(status.message().find("'t3'"), absl::string_view::npos);
}

TEST(UpdateTest, ClaimedBytesHoldACommitBack) {
  const auto update = MemoryUpdate({ByteTensor("t", 10)});
  const auto claimed = update->ranges().Claim({{0, {0, 10}}});
  EXPECT_FALSE(update->StartCommit().ok());
  update->ranges().Land(claimed);
  EXPECT_TRUE(update->StartCommit().ok());
}

TEST(UpdateTest, CommittingAndCommittedTakeNoChunks) {
  const auto update = MemoryUpdate({ByteTensor("t", 10)});
  EXPECT_TRUE(update->ReceivingStatus().ok());
  LandAll(*update);
  ASSERT_TRUE(update->StartCommit().ok());
  ExpectError(update->ReceivingStatus(), StatusCode::kFailedPrecondition, {"u1", "is being committed"});
  ExpectError(update->StartCommit(), StatusCode::kFailedPrecondition, {"u1", "committing"});
  update->FinishCommit();
  ExpectError(update->ReceivingStatus(), StatusCode::kFailedPrecondition, {"u1", "'m'", "is committed", "higher"});
  EXPECT_FALSE(update->Abort("too late"));
  EXPECT_EQ(update->state(), UpdateState::kCommitted);
  EXPECT_NE(update->Record().end_time, absl::InfiniteFuture());
}

TEST(UpdateTest, AbortedSaysWhyAndTheFirstReasonStays) {
  const auto update = MemoryUpdate({ByteTensor("t", 10)});
  EXPECT_TRUE(update->Abort("superseded by version 2"));
  EXPECT_FALSE(update->Abort("another reason"));
  ExpectError(update->ReceivingStatus(), StatusCode::kAborted, {"u1", "superseded by version 2"});
  EXPECT_EQ(update->Record().reason, "superseded by version 2");
  ExpectError(update->StartCommit(), StatusCode::kFailedPrecondition, {"is aborted", "superseded by version 2"});
}

TEST(UpdateTest, ACommitThatCouldNotPublishCanBeAborted) {
  const auto update = MemoryUpdate({ByteTensor("t", 1)});
  LandAll(*update);
  ASSERT_TRUE(update->StartCommit().ok());
  EXPECT_TRUE(update->Abort("the commit failed"));
  EXPECT_EQ(update->state(), UpdateState::kAborted);
}

TEST(UpdateTest, RecordTellsProgressAndStreams) {
  const auto update = MemoryUpdate({ByteTensor("t", 10)});
  const uint64_t token = update->AddStream([](const absl::Status&) {});
  update->ranges().Land(update->ranges().Claim({{0, {0, 4}}}));
  UpdateRecord record = update->Record();
  EXPECT_EQ(record.identity.id, "u1");
  EXPECT_EQ(record.identity.source_id, "source");
  EXPECT_EQ(record.manifest_crc32c, 7u);
  EXPECT_EQ(record.total_bytes, 10u);
  EXPECT_EQ(record.landed_bytes, 4u);
  EXPECT_EQ(record.open_streams, 1u);
  EXPECT_EQ(record.end_time, absl::InfiniteFuture());
  update->RemoveStream(token);
  EXPECT_EQ(update->Record().open_streams, 0u);
}

TEST(UpdateTest, CutStreamsTellsThemWhyAndWaitsForThemToLeave) {
  const auto update = MemoryUpdate({ByteTensor("t", 10)});
  std::atomic<int> cuts{0};
  const uint64_t token = update->AddStream([&](const absl::Status& reason) {
    ExpectError(reason, StatusCode::kAborted, {"superseded"});
    ++cuts;
  });
  update->Abort("superseded");
  std::thread stream([&] {
    EXPECT_TRUE(WaitFor([&] { return cuts > 0; }));
    update->RemoveStream(token);
  });
  update->CutStreams(absl::Seconds(30));
  EXPECT_EQ(update->Record().open_streams, 0u);
  stream.join();
  EXPECT_EQ(cuts, 1);
}

TEST(UpdateTest, CutStreamsWaitsNoLongerThanItsPatience) {
  const auto update = MemoryUpdate({ByteTensor("t", 10)});
  update->CutStreams(absl::InfiniteDuration());
  std::atomic<int> cuts{0};
  update->AddStream([&](const absl::Status& reason) {
    EXPECT_FALSE(reason.ok());
    ++cuts;
  });
  update->CutStreams(absl::Milliseconds(1));
  EXPECT_EQ(cuts, 1);
  EXPECT_EQ(update->Record().open_streams, 1u);
}

TEST(UpdateTest, TouchMovesTheLastActivity) {
  const auto update = MemoryUpdate({});
  const absl::Duration before = update->last_activity();
  EXPECT_TRUE(WaitFor([&] {
    update->Touch();
    return update->last_activity() > before;
  }));
}

}  // namespace
}  // namespace weightstream
