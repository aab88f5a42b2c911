// Whether the rates of the GPU benchmark reach what docs/gpu-results.md asks for: by the numbers alone.
#ifndef WEIGHTSTREAM_TESTS_GPU_GOALS_H_
#define WEIGHTSTREAM_TESTS_GPU_GOALS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace weightstream {

// What is to be reached: of the ceiling, by chunks of at least that size; of the push to a host target with the bounce;
// of what device memory moves.
constexpr double kPipelineGoal = 0.9;
constexpr uint64_t kPipelineGoalChunkBytes = uint64_t{4} << 20;
constexpr double kPushGoal = 1;
constexpr double kDigestGoal = 0.5;
constexpr double kCastGoal = 0.7;

// A rate in GB/s, and where it is compared with another one, that one's.
struct RateRow {
  std::string name;
  double rate = 0;
  std::string of = {};
  // 0 if it was not measured.
  double of_rate = 0;
  // The share of it that is to be reached; 0 where the rate is only shown.
  double to_reach = 0;
};

enum class Verdict { kNoGoal, kReached, kMissed, kNotComparable };

Verdict Judge(const RateRow& row);

// What stands behind the rate: "  0.93 of the ceiling, 0.90 to reach: reached". Empty if there is nothing to say.
std::string ShareText(const RateRow& row);

// The verdicts in one line, which names what was missed and what could not be judged: "missed: ..." if any was, else
// "reached: ...".
std::string JudgementOf(const std::vector<RateRow>& rows);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_GPU_GOALS_H_
