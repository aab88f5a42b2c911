#include "tests/gpu/goals.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace weightstream {
namespace {

double Share(const RateRow& row) { return row.rate / row.of_rate; }

}  // namespace

Verdict Judge(const RateRow& row) {
  if (row.to_reach == 0) return Verdict::kNoGoal;
  if (row.of_rate == 0) return Verdict::kNotComparable;
  return Share(row) >= row.to_reach ? Verdict::kReached : Verdict::kMissed;
}

std::string ShareText(const RateRow& row) {
  std::string text = row.of_rate > 0 ? absl::StrFormat("  %.2f of %s", Share(row), row.of) : "";
  const Verdict verdict = Judge(row);
  if (verdict == Verdict::kNotComparable) return absl::StrCat("  not judged: no rate of ", row.of);
  if (verdict == Verdict::kNoGoal) return text;
  absl::StrAppendFormat(&text, ", %.2f to reach: %s", row.to_reach,
                        verdict == Verdict::kReached ? "reached" : "MISSED");
  return text;
}

std::string JudgementOf(const std::vector<RateRow>& rows) {
  int goals = 0;
  int reached = 0;
  std::vector<std::string> missed;
  std::vector<std::string> not_judged;
  for (const RateRow& row : rows) {
    const Verdict verdict = Judge(row);
    if (verdict == Verdict::kNoGoal) continue;
    ++goals;
    if (verdict == Verdict::kReached) ++reached;
    // Three digits, so that what was missed by a little does not look as if it were reached.
    if (verdict == Verdict::kMissed) {
      missed.push_back(absl::StrFormat("%s (%.3f of %.2f)", row.name, Share(row), row.to_reach));
    }
    if (verdict == Verdict::kNotComparable) not_judged.push_back(row.name);
  }
  std::string text = missed.empty() ? "" : absl::StrCat("missed: ", absl::StrJoin(missed, ", "), "; ");
  absl::StrAppend(&text, "reached: ", reached, " of ", goals);
  if (!not_judged.empty()) absl::StrAppend(&text, "; not judged: ", absl::StrJoin(not_judged, ", "));
  return text;
}

}  // namespace weightstream
