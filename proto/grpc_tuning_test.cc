#include "proto/grpc_tuning.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>

// gRPC's own name for what it waits with, which its public headers leave out.
const char* grpc_get_poll_strategy_name();

namespace weightstream {
namespace {

constexpr char kPollStrategy[] = "GRPC_POLL_STRATEGY";

// Each in a process of its own, as gRPC chooses once: exits with 0 if it chose `strategy`, and the environment is as it
// was.
void TuneAndExit(const std::string& in_environment, const std::string& strategy) {
  unsetenv(kPollStrategy);
  if (!in_environment.empty()) setenv(kPollStrategy, in_environment.c_str(), 1);
  TuneGrpcForStreaming();
  const char* const after = getenv(kPollStrategy);
  const bool same_environment = in_environment == (after == nullptr ? "" : after);
  _exit(same_environment && strategy == grpc_get_poll_strategy_name() ? 0 : 1);
}

TEST(GrpcTuningTest, WaitsWithPollAndLeavesTheEnvironmentAsItWas) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(TuneAndExit("", "poll"), testing::ExitedWithCode(0), "");
}

TEST(GrpcTuningTest, LeavesTheChoiceOfTheEnvironmentAlone) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(TuneAndExit("epoll1", "epoll1"), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace weightstream
