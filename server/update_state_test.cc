#include "server/update_state.h"

#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

constexpr UpdateState kAll[] = {UpdateState::kReceiving, UpdateState::kCommitting, UpdateState::kCommitted,
                                UpdateState::kAborted};

TEST(UpdateStateTest, OnlyTheDrawnTransitionsAreLegal) {
  const auto legal = testing::AnyOf(testing::Pair(UpdateState::kReceiving, UpdateState::kCommitting),
                                    testing::Pair(UpdateState::kReceiving, UpdateState::kAborted),
                                    testing::Pair(UpdateState::kCommitting, UpdateState::kCommitted),
                                    testing::Pair(UpdateState::kCommitting, UpdateState::kAborted));
  for (const UpdateState from : kAll) {
    for (const UpdateState to : kAll) {
      EXPECT_EQ(IsLegalTransition(from, to), testing::Matches(legal)(std::make_pair(from, to)))
          << UpdateStateName(from) << " to " << UpdateStateName(to);
    }
  }
}

TEST(UpdateStateTest, NothingLeavesCommittedAndAborted) {
  EXPECT_FALSE(IsFinal(UpdateState::kReceiving));
  EXPECT_FALSE(IsFinal(UpdateState::kCommitting));
  EXPECT_TRUE(IsFinal(UpdateState::kCommitted));
  EXPECT_TRUE(IsFinal(UpdateState::kAborted));
}

TEST(UpdateStateTest, EachStateHasItsName) {
  EXPECT_EQ(UpdateStateName(UpdateState::kReceiving), "receiving");
  EXPECT_EQ(UpdateStateName(UpdateState::kCommitting), "committing");
  EXPECT_EQ(UpdateStateName(UpdateState::kCommitted), "committed");
  EXPECT_EQ(UpdateStateName(UpdateState::kAborted), "aborted");
}

}  // namespace
}  // namespace weightstream
