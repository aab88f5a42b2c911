#include "process/grpc_tuning.h"

#include <grpc/grpc.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

// gRPC's own name for what it waits with, which its public headers leave out.
const char* grpc_get_poll_strategy_name();

namespace weightstream {
namespace {

constexpr char kPollStrategy[] = "GRPC_POLL_STRATEGY";
constexpr char kUnset[] = "(unset)";

std::string Environment() {
  const char* const value = getenv(kPollStrategy);
  return value == nullptr ? kUnset : value;
}

void SetEnvironment(const std::string& value) {
  value == kUnset ? unsetenv(kPollStrategy) : setenv(kPollStrategy, value.c_str(), 1);
}

// Each in a process of its own, as gRPC chooses once.
class GrpcTuningTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  // Exits with 0 if gRPC chose `strategy`, and the environment is what `after` says.
  static void TuneAndExit(const std::string& before, const std::string& strategy, const std::string& after) {
    SetEnvironment(before);
    TuneGrpcForStreaming();
    _exit(strategy == grpc_get_poll_strategy_name() && Environment() == after ? 0 : 1);
  }
};

TEST_F(GrpcTuningTest, WaitsWithPollAndTakesItsWordsBack) {
  EXPECT_EXIT(TuneAndExit(kUnset, "poll", kUnset), testing::ExitedWithCode(0), "");
}

TEST_F(GrpcTuningTest, LeavesTheChoiceOfTheEnvironmentAlone) {
  EXPECT_EXIT(TuneAndExit("epoll1", "epoll1", "epoll1"), testing::ExitedWithCode(0), "");
}

TEST_F(GrpcTuningTest, TakesAnEmptyChoiceForNone) {
  EXPECT_EXIT(TuneAndExit("", "poll", kUnset), testing::ExitedWithCode(0), "");
}

TEST_F(GrpcTuningTest, ComesTooLateOnceGrpcIsUp) {
  const auto tune_late = [] {
    SetEnvironment("epoll1");
    grpc_init();
    SetEnvironment(kUnset);
    TuneAndExit(kUnset, "epoll1", kUnset);
  };
  EXPECT_EXIT(tune_late(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace weightstream
