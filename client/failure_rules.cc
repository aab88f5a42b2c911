#include "client/failure_rules.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

// gRPC's own words for a stream that the other side, or something in between, cut off. Such a status carries the code
// that the reset's number maps to (RESOURCE_EXHAUSTED, INTERNAL, UNKNOWN ...), which then is no word of the server's.
bool IsStreamReset(const absl::Status& failure) {
  return absl::StrContains(failure.message(), "RST_STREAM") || absl::StartsWith(failure.message(), "Stream removed");
}

struct Rule {
  absl::StatusCode code;
  Remedy begin, push, commit, read;
};

constexpr Remedy kGiveUp = Remedy::kGiveUp;
constexpr Remedy kRetry = Remedy::kRetry;
constexpr Remedy kBeginAgain = Remedy::kBeginAgain;
constexpr Remedy kAsk = Remedy::kAskWhetherCommitted;
constexpr Remedy kStartOver = Remedy::kStartOver;

// Codes that are not here end the call for good: INVALID_ARGUMENT, PERMISSION_DENIED, UNAUTHENTICATED, ABORTED
// (superseded by a newer update), UNIMPLEMENTED; and, where they are the server's own words, RESOURCE_EXHAUSTED
// (memory, disk), INTERNAL and UNKNOWN.
constexpr Rule kRules[] = {
    {absl::StatusCode::kUnavailable, kRetry, kRetry, kRetry, kRetry},
    {absl::StatusCode::kDeadlineExceeded, kRetry, kRetry, kRetry, kRetry},
    {absl::StatusCode::kCancelled, kRetry, kRetry, kRetry, kRetry},
    // Damaged on the way: the range stays missing, and a resend heals it. A commit that is told so learns that what
    // began its update was damaged.
    {absl::StatusCode::kDataLoss, kGiveUp, kRetry, kStartOver, kRetry},
    // An update that the server does not know: it was restarted.
    {absl::StatusCode::kNotFound, kGiveUp, kBeginAgain, kAsk, kGiveUp},
    {absl::StatusCode::kAlreadyExists, kGiveUp, kGiveUp, kAsk, kGiveUp},
    // A commit before every byte has landed.
    {absl::StatusCode::kFailedPrecondition, kGiveUp, kGiveUp, kBeginAgain, kGiveUp},
};

}  // namespace

Remedy RemedyFor(CallKind kind, const absl::Status& failure) {
  if (IsStreamReset(failure)) return kRetry;
  for (const Rule& rule : kRules) {
    if (rule.code != failure.code()) continue;
    switch (kind) {
      case CallKind::kBegin:
        return rule.begin;
      case CallKind::kPush:
        return rule.push;
      case CallKind::kCommit:
        return rule.commit;
      case CallKind::kRead:
        return rule.read;
    }
  }
  return kGiveUp;
}

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  return absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

}  // namespace weightstream
