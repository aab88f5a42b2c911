// What went on when: how far receiving and copying overlap, as figures, as text and as a picture.
#ifndef WEIGHTSTREAM_TESTS_GPU_TIMELINE_H_
#define WEIGHTSTREAM_TESTS_GPU_TIMELINE_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"

namespace weightstream {

// kReceive: bytes come to a staging slot, from a socket or from memory. kCopy: the device has been asked to copy a
// slot, and has not said yet that it has.
enum class Activity { kReceive, kCopy };

struct ActivitySpan {
  Activity activity = Activity::kReceive;
  // Which of those that go on side by side: a thread, or a copy's place.
  int lane = 0;
  absl::Duration begin, end;
};

// Of all spans together. Several at a time count once.
struct Overlap {
  // From the first begin to the last end.
  absl::Duration elapsed;
  absl::Duration receiving, copying;
  // Both at a time.
  absl::Duration both;

  // How much of the shorter of the two was hidden behind the other: 1 if all of it was.
  double hidden() const;
};
Overlap OverlapOf(absl::Span<const ActivitySpan> spans);

// Gives copies the lowest lane that is free at their begin. Receives keep theirs.
std::vector<ActivitySpan> WithCopyLanes(std::vector<ActivitySpan> spans);

// The spans around the middle that have to do with `copies` copies, cut to that time.
std::vector<ActivitySpan> Middle(absl::Span<const ActivitySpan> spans, int copies);

// A line a lane, of that many columns: '#' where it is busy for half of a column's time or more.
std::string TimelineText(absl::Span<const ActivitySpan> spans, int columns);

std::string TimelineSvg(absl::Span<const ActivitySpan> spans, absl::string_view title);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_GPU_TIMELINE_H_
