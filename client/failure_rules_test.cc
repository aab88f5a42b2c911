#include "client/failure_rules.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "client/connection.h"
#include "client/defaults.h"

namespace weightstream {
namespace {

// What the Python client is held to as well.
nlohmann::json Rules() {
  std::ifstream file("client/retry_rules.json");
  return nlohmann::json::parse(file);
}

constexpr int kCodes = 16;

absl::StatusCode CodeNamed(const std::string& name) {
  for (int code = 1; code <= kCodes; ++code) {
    if (absl::StatusCodeToString(static_cast<absl::StatusCode>(code)) == name)
      return static_cast<absl::StatusCode>(code);
  }
  ADD_FAILURE() << name << " is no code";
  return absl::StatusCode::kOk;
}

std::string NameOf(Remedy remedy) {
  switch (remedy) {
    case Remedy::kGiveUp:
      return "give_up";
    case Remedy::kRetry:
      return "retry";
    case Remedy::kBeginAgain:
      return "begin_again";
    case Remedy::kAskWhetherCommitted:
      return "ask_whether_committed";
    case Remedy::kStartOver:
      return "start_over";
  }
  return "";
}

TEST(FailureRulesTest, EveryCodeHasItsRemedyForEveryCall) {
  constexpr std::pair<CallKind, const char*> kCalls[] = {
      {CallKind::kBegin, "begin"}, {CallKind::kPush, "push"}, {CallKind::kCommit, "commit"}, {CallKind::kRead, "read"}};
  std::set<absl::StatusCode> codes;
  const nlohmann::json rules = Rules();
  for (const nlohmann::json& rule : rules["remedies"]) {
    const absl::Status failure(CodeNamed(rule["code"]), rule["message"].get<std::string>());
    codes.insert(failure.code());
    for (const auto& [call, name] : kCalls) EXPECT_EQ(NameOf(RemedyFor(call, failure)), rule[name]) << failure << name;
  }
  EXPECT_EQ(codes.size(), size_t{kCodes}) << "each is in the table";
}

TEST(FailureRulesTest, LimitsAreThoseOfEveryClient) {
  const TimeLimits limits;
  const nlohmann::json ours = {{"max_attempts", kDefaultMaxAttempts},
                               {"first_backoff_seconds", absl::ToDoubleSeconds(kFirstBackoff)},
                               {"most_backoff_seconds", absl::ToDoubleSeconds(kMostBackoff)},
                               {"abort_seconds", absl::ToDoubleSeconds(kAbortLimit)},
                               {"connect_seconds", absl::ToDoubleSeconds(limits.connect)},
                               {"call_seconds", absl::ToDoubleSeconds(limits.call)},
                               {"stall_seconds", absl::ToDoubleSeconds(limits.stall)},
                               {"per_gib_seconds", absl::ToDoubleSeconds(limits.per_gib)},
                               {"keepalive_time_seconds", absl::ToDoubleSeconds(limits.keepalive_time)},
                               {"keepalive_timeout_seconds", absl::ToDoubleSeconds(limits.keepalive_timeout)}};
  EXPECT_EQ(ours, Rules()["limits"]);
}

TEST(FailureRulesTest, AnnotationKeepsTheCodeAndTheMessage) {
  EXPECT_EQ(Annotate(absl::DataLossError("why"), "where"), absl::DataLossError("where: why"));
}

}  // namespace
}  // namespace weightstream
