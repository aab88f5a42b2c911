#include "server/commit_hook_runner.h"

#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/test_update.h"

namespace weightstream {
namespace {

// Answers as a test says: by default with success, at once.
class FakeHook final : public CommitHook {
 public:
  absl::StatusOr<std::string> Call(const CurrentVersionEvent& event) override {
    absl::MutexLock lock(&mutex_);
    calls_.push_back(absl::StrCat(event.model, " ", event.version));
    const auto free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !held_ || cut_; };
    mutex_.Await(absl::Condition(&free));
    if (cut_) return absl::CancelledError("cut");
    if (failures_ == 0) return std::string("loaded");
    --failures_;
    return absl::UnavailableError("not yet");
  }

  void Cut() override {
    absl::MutexLock lock(&mutex_);
    cut_ = true;
  }

  // While held, an attempt does not end.
  void Hold(bool held) {
    absl::MutexLock lock(&mutex_);
    held_ = held;
  }
  void Fail(int times) {
    absl::MutexLock lock(&mutex_);
    failures_ = times;
  }
  std::vector<std::string> calls() {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }

 private:
  absl::Mutex mutex_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mutex_);
};

using Calls = std::vector<std::string>;

class CommitHookRunnerTest : public ::testing::Test {
 protected:
  CommitHookRunnerTest() {
    options_.attempts = 3;
    options_.first_wait = absl::Milliseconds(2);
    options_.longest_wait = absl::Milliseconds(4);
  }

  CommitHookRunner& runner() {
    if (runner_ == nullptr) {
      auto hook = std::make_unique<FakeHook>();
      hook_ = hook.get();
      runner_ = std::make_unique<CommitHookRunner>(options_, std::move(hook));
    }
    return *runner_;
  }
  FakeHook& hook() {
    runner();
    return *hook_;
  }

  void Current(const std::string& model, uint64_t version) { runner().BecameCurrent({model, version, "/f", "/f/p"}); }

  bool Reaches(const std::string& model, uint64_t version, CommitHookState state) {
    return WaitFor([&] {
      const absl::optional<CommitHookRecord> record = runner().Find(model);
      return record.has_value() && record->version == version && record->state == state;
    });
  }

  CommitHookOptions options_;

 private:
  FakeHook* hook_ = nullptr;
  std::unique_ptr<CommitHookRunner> runner_;
};

TEST_F(CommitHookRunnerTest, EachVersionIsToldOnceInOrder) {
  EXPECT_FALSE(runner().Find("m").has_value());
  // Back to 1 is a version that becomes current as any other.
  for (const uint64_t version : {1, 2, 1}) {
    Current("m", version);
    ASSERT_TRUE(Reaches("m", version, CommitHookState::kSucceeded));
  }
  EXPECT_EQ(hook().calls(), (Calls{"m 1", "m 2", "m 1"}));
  EXPECT_EQ(runner().Find("m")->message, "loaded");
  EXPECT_EQ(runner().Find("m")->attempts, 1);
  EXPECT_EQ(runner().Counts("m").succeeded, 3u);
}

TEST_F(CommitHookRunnerTest, AFailedAttemptIsRepeatedUntilItSucceeds) {
  hook().Fail(2);
  Current("m", 1);
  ASSERT_TRUE(Reaches("m", 1, CommitHookState::kSucceeded));
  EXPECT_EQ(hook().calls().size(), 3u);
  EXPECT_EQ(runner().Find("m")->attempts, 3);
  EXPECT_EQ(runner().Counts("m").failed_attempts, 2u);
}

TEST_F(CommitHookRunnerTest, AfterTheLastAttemptItIsGivenUpUntilTheNextVersion) {
  hook().Fail(3);
  Current("m", 1);
  ASSERT_TRUE(Reaches("m", 1, CommitHookState::kFailed));
  EXPECT_EQ(runner().Find("m")->message, "UNAVAILABLE: not yet");
  EXPECT_EQ(runner().Counts("m").failed, 1u);
  Current("m", 2);
  ASSERT_TRUE(Reaches("m", 2, CommitHookState::kSucceeded));
  EXPECT_EQ(hook().calls(), (Calls{"m 1", "m 1", "m 1", "m 2"}));
}

TEST_F(CommitHookRunnerTest, ANewerVersionTakesThePlaceOfOneThatWaits) {
  options_.first_wait = options_.longest_wait = absl::Hours(1);
  hook().Fail(1);
  Current("m", 1);
  ASSERT_TRUE(WaitFor([&] { return !runner().Find("m")->message.empty(); }));
  Current("m", 2);
  ASSERT_TRUE(Reaches("m", 2, CommitHookState::kSucceeded));
  EXPECT_EQ(hook().calls(), (Calls{"m 1", "m 2"}));
  EXPECT_EQ(runner().Counts("m").superseded, 1u);
}

TEST_F(CommitHookRunnerTest, AVersionThatComesDuringAnAttemptIsToldAfterItAndThoseBetweenAreLeftOut) {
  hook().Hold(true);
  Current("m", 1);
  ASSERT_TRUE(WaitFor([&] { return hook().calls().size() == 1; }));
  // Neither of these waits for the attempt.
  Current("m", 2);
  Current("m", 3);
  EXPECT_EQ(runner().Find("m")->version, 3u);
  EXPECT_EQ(runner().Find("m")->attempts, 0);
  hook().Hold(false);
  ASSERT_TRUE(Reaches("m", 3, CommitHookState::kSucceeded));
  EXPECT_EQ(hook().calls(), (Calls{"m 1", "m 3"}));
  // The first was told after all; nobody was told of the second.
  EXPECT_EQ(runner().Counts("m").succeeded, 2u);
  EXPECT_EQ(runner().Counts("m").superseded, 1u);
}

TEST_F(CommitHookRunnerTest, AnAttemptThatFailsAfterANewerVersionCameIsSupersededOnce) {
  hook().Fail(1);
  hook().Hold(true);
  Current("m", 1);
  ASSERT_TRUE(WaitFor([&] { return hook().calls().size() == 1; }));
  Current("m", 2);
  EXPECT_EQ(runner().Counts("m").superseded, 0u);
  hook().Hold(false);
  ASSERT_TRUE(Reaches("m", 2, CommitHookState::kSucceeded));
  EXPECT_EQ(hook().calls(), (Calls{"m 1", "m 2"}));
  EXPECT_EQ(runner().Counts("m").succeeded, 1u);
  EXPECT_EQ(runner().Counts("m").superseded, 1u);
  EXPECT_EQ(runner().Counts("m").failed_attempts, 1u);
}

TEST_F(CommitHookRunnerTest, AModelThatWaitsDoesNotHoldUpAnother) {
  options_.first_wait = options_.longest_wait = absl::Hours(1);
  hook().Fail(1);
  Current("broken", 1);
  ASSERT_TRUE(WaitFor([&] { return !runner().Find("broken")->message.empty(); }));
  Current("m", 1);
  EXPECT_TRUE(Reaches("m", 1, CommitHookState::kSucceeded));
  EXPECT_EQ(runner().Find("broken")->state, CommitHookState::kPending);
  EXPECT_EQ(runner().Counts("broken").failed_attempts, 1u);
  EXPECT_EQ(runner().Counts("m").failed_attempts, 0u);
  EXPECT_EQ(runner().Counts("nobody").succeeded, 0u);
}

TEST_F(CommitHookRunnerTest, StopLetsAFirstAttemptEnd) {
  hook().Hold(true);
  Current("m", 1);
  ASSERT_TRUE(WaitFor([&] { return hook().calls().size() == 1; }));
  Current("other", 1);
  std::thread release([&] { hook().Hold(false); });
  runner().Stop(absl::InfiniteDuration());
  release.join();
  EXPECT_EQ(runner().Find("m")->state, CommitHookState::kSucceeded);
  EXPECT_EQ(runner().Find("other")->state, CommitHookState::kSucceeded);
}

TEST_F(CommitHookRunnerTest, StopDoesNotRepeatAndGivesUpWhatWaits) {
  options_.first_wait = options_.longest_wait = absl::Hours(1);
  hook().Fail(1);
  Current("m", 1);
  ASSERT_TRUE(WaitFor([&] { return !runner().Find("m")->message.empty(); }));
  runner().Stop(absl::InfiniteDuration());
  EXPECT_EQ(runner().Find("m")->state, CommitHookState::kFailed);
  EXPECT_EQ(hook().calls().size(), 1u);
}

TEST_F(CommitHookRunnerTest, StopCutsAnAttemptAtItsDeadline) {
  hook().Hold(true);
  Current("m", 1);
  ASSERT_TRUE(WaitFor([&] { return hook().calls().size() == 1; }));
  runner().Stop(absl::Milliseconds(20));
  EXPECT_EQ(runner().Find("m")->state, CommitHookState::kFailed);
  EXPECT_EQ(runner().Find("m")->message, "CANCELLED: cut");
}

}  // namespace
}  // namespace weightstream
