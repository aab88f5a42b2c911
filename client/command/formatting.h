// Numbers, times and foreign text as a person reads them. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_FORMATTING_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_FORMATTING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace weightstream::command {

// Sizes in powers of 1024, as memory is sold: "0 B", "1023 B", "1.0 KiB", "14.2 GiB".
std::string FormatBytes(uint64_t bytes);

// Both in the unit of `total`, which is said once: "4.0/8.0 GiB", "147/400 MiB". Done is rounded down, so that it says
// the same as the total only when everything is there.
std::string FormatBytesOf(uint64_t done, uint64_t total);

// Rates in powers of 1000, as networks are: "0 B/s", "850 kB/s", "1.23 GB/s".
std::string FormatRate(double bytes_per_second);

// "0.4s", "12s", "3m05s", "2h04m", "5d03h"; a negative one is "0.0s", an infinite one "?".
std::string DurationText(absl::Duration duration);

// "42.1 %". Rounded down, so that it says 100 only when everything is there. 0 of 0 is 100.
std::string FormatPercent(uint64_t done, uint64_t total);
double Percent(uint64_t done, uint64_t total);

// Ascending versions as ranges: "3-5,9"; "-" for none.
std::string FormatVersions(absl::Span<const uint64_t> versions);

// "2026-11-24 07:03:38 UTC", and the same as RFC 3339 for JSON; "-" and "" for absl::InfinitePast().
std::string TimeText(absl::Time time);
std::string JsonTimeText(absl::Time time);

// Text that came from elsewhere, made safe for a terminal: control characters are escaped.
std::string OneLine(absl::string_view text);

// Lines of at most `columns`, each broken between words where it is longer, its rest indented by two
// spaces. A word that is longer stands whole. Text that needs no break comes back as it is.
std::string WrapLines(absl::string_view text, size_t columns);

// Rows as columns, two spaces apart, each as wide as its widest cell, the last one as it is. Columns whose title starts
// with '>' are set to the right. A row of one cell stands as it is, across the columns. A first cell wider than
// `most_first` stands on a line of its own, so that one long name does not widen the table.
std::string FormatTable(absl::Span<const std::string> titles, absl::Span<const std::vector<std::string>> rows,
                        size_t most_first);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_FORMATTING_H_
