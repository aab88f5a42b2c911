#include "client/failure_rules.h"

#include <gtest/gtest.h>

namespace weightstream {
namespace {

struct Case {
  absl::StatusCode code;
  const char* message;
  Remedy begin, push, commit, read;
};

constexpr Remedy kGiveUp = Remedy::kGiveUp;
constexpr Remedy kRetry = Remedy::kRetry;
constexpr Remedy kBeginAgain = Remedy::kBeginAgain;
constexpr Remedy kAsk = Remedy::kAskWhetherCommitted;
constexpr Remedy kStartOver = Remedy::kStartOver;

constexpr Case kCases[] = {
    {absl::StatusCode::kCancelled, "x", kRetry, kRetry, kRetry, kRetry},
    {absl::StatusCode::kUnknown, "x", kGiveUp, kGiveUp, kGiveUp, kGiveUp},
    {absl::StatusCode::kUnknown, "Stream removed", kRetry, kRetry, kRetry, kRetry},
    {absl::StatusCode::kInvalidArgument, "x", kGiveUp, kGiveUp, kGiveUp, kGiveUp},
    {absl::StatusCode::kDeadlineExceeded, "x", kRetry, kRetry, kRetry, kRetry},
    {absl::StatusCode::kNotFound, "x", kGiveUp, kBeginAgain, kAsk, kGiveUp},
    {absl::StatusCode::kAlreadyExists, "x", kGiveUp, kGiveUp, kAsk, kGiveUp},
    {absl::StatusCode::kPermissionDenied, "x", kGiveUp, kGiveUp, kGiveUp, kGiveUp},
    {absl::StatusCode::kUnauthenticated, "x", kGiveUp, kGiveUp, kGiveUp, kGiveUp},
    // The server's own word: memory, disk, bucket limit.
    {absl::StatusCode::kResourceExhausted, "the model takes 5 GiB", kGiveUp, kGiveUp, kGiveUp, kGiveUp},
    // The transport's.
    {absl::StatusCode::kResourceExhausted, "Received RST_STREAM with error code 11", kRetry, kRetry, kRetry, kRetry},
    {absl::StatusCode::kFailedPrecondition, "x", kGiveUp, kGiveUp, kBeginAgain, kGiveUp},
    {absl::StatusCode::kAborted, "x", kGiveUp, kGiveUp, kGiveUp, kGiveUp},
    {absl::StatusCode::kOutOfRange, "x", kGiveUp, kGiveUp, kGiveUp, kGiveUp},
    {absl::StatusCode::kUnimplemented, "x", kGiveUp, kGiveUp, kGiveUp, kGiveUp},
    {absl::StatusCode::kInternal, "x", kGiveUp, kGiveUp, kGiveUp, kGiveUp},
    {absl::StatusCode::kInternal, "Received RST_STREAM with error code 2", kRetry, kRetry, kRetry, kRetry},
    {absl::StatusCode::kUnavailable, "x", kRetry, kRetry, kRetry, kRetry},
    {absl::StatusCode::kDataLoss, "x", kGiveUp, kRetry, kStartOver, kRetry},
};

TEST(FailureRulesTest, EveryCodeHasItsRemedyForEveryCall) {
  for (const Case& c : kCases) {
    const absl::Status failure(c.code, c.message);
    EXPECT_EQ(RemedyFor(CallKind::kBegin, failure), c.begin) << failure;
    EXPECT_EQ(RemedyFor(CallKind::kPush, failure), c.push) << failure;
    EXPECT_EQ(RemedyFor(CallKind::kCommit, failure), c.commit) << failure;
    EXPECT_EQ(RemedyFor(CallKind::kRead, failure), c.read) << failure;
  }
}

TEST(FailureRulesTest, AnnotationKeepsTheCodeAndTheMessage) {
  EXPECT_EQ(Annotate(absl::DataLossError("why"), "where"), absl::DataLossError("where: why"));
}

}  // namespace
}  // namespace weightstream
