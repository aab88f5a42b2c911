#include "tests/gpu/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weightstream {
namespace {

using ::testing::HasSubstr;

ActivitySpan Receive(int lane, int begin, int end) {
  return {Activity::kReceive, lane, absl::Milliseconds(begin), absl::Milliseconds(end)};
}

ActivitySpan Copy(int begin, int end) {
  return {Activity::kCopy, 0, absl::Milliseconds(begin), absl::Milliseconds(end)};
}

TEST(Timeline, CountsWhatGoesOnSideBySideOnce) {
  const Overlap overlap =
      OverlapOf({Receive(0, 0, 10), Receive(1, 5, 15), Receive(0, 30, 40), Copy(12, 32), Copy(14, 20)});
  EXPECT_EQ(overlap.elapsed, absl::Milliseconds(40));
  EXPECT_EQ(overlap.receiving, absl::Milliseconds(25));
  EXPECT_EQ(overlap.copying, absl::Milliseconds(20));
  EXPECT_EQ(overlap.both, absl::Milliseconds(3 + 2));
  EXPECT_DOUBLE_EQ(overlap.hidden(), 0.25);
}

TEST(Timeline, HidesNothingWhereOneFollowsTheOther) {
  EXPECT_EQ(OverlapOf({Receive(0, 0, 10), Copy(10, 20)}).hidden(), 0);
  EXPECT_EQ(OverlapOf({Receive(0, 0, 10)}).hidden(), 0);
  EXPECT_EQ(OverlapOf({}).elapsed, absl::ZeroDuration());
  EXPECT_EQ(OverlapOf({Receive(0, 0, 30), Copy(10, 20)}).hidden(), 1);
}

TEST(Timeline, ShowsCopiesThatGoOnSideBySideInLanesOfTheirOwn) {
  const std::vector<ActivitySpan> spans = WithCopyLanes({Copy(0, 10), Copy(5, 15), Copy(10, 20), Receive(7, 0, 1)});
  std::vector<int> lanes;
  for (const ActivitySpan& span : spans) lanes.push_back(span.lane);
  // By their begin: the first copy, the receive, the second copy, the third, which finds the first one's place free.
  EXPECT_EQ(lanes, (std::vector<int>{0, 7, 1, 0}));
}

TEST(Timeline, CutsOutTheMiddle) {
  std::vector<ActivitySpan> spans = {Receive(0, 0, 100)};
  for (int i = 0; i < 10; ++i) spans.push_back(Copy(10 * i, 10 * i + 10));
  const std::vector<ActivitySpan> middle = Middle(spans, 4);
  ASSERT_EQ(middle.size(), 5u);
  EXPECT_EQ(middle[0].begin, absl::Milliseconds(30));
  EXPECT_EQ(middle[0].end, absl::Milliseconds(70));
  EXPECT_TRUE(Middle({Receive(0, 0, 1)}, 4).empty());
}

TEST(Timeline, IsShownAsTextAndAsAPicture) {
  const std::vector<ActivitySpan> spans = {Receive(0, 0, 60), Receive(1, 20, 100), Copy(50, 100)};
  EXPECT_EQ(TimelineText(spans, 10),
            "receive 1  |######....|\nreceive 2  |..########|\ncopy 1     |.....#####|\n            100ms\n");
  const std::string svg = TimelineSvg(spans, "a push");
  for (const char* part :
       {"<svg ", "a push", "receive 2", "copy 1", "x=\"540.00\"", "width=\"450.00\"", "100ms", "</svg>"}) {
    EXPECT_THAT(svg, HasSubstr(part));
  }
}

}  // namespace
}  // namespace weightstream
