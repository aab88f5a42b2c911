#include "tests/gpu/rates.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {

void RateReport::Add(const std::string& name, double rate, const std::string& of, double to_reach) {
  rows_.push_back({name, rate, of, of.empty() ? 0 : this->rate(of), to_reach});
  absl::PrintF("%-58s %8.2f GB/s%s\n", name, rate, ShareText(rows_.back()));
  std::fflush(stdout);
}

void RateReport::Note(const std::string& text) {
  absl::PrintF("%s\n", text);
  std::fflush(stdout);
}

void RateReport::Skip(const std::string& name, const std::string& why) {
  absl::PrintF("%-58s not measured: %s\n", name, why);
  std::fflush(stdout);
}

double RateReport::rate(const std::string& name) const {
  const auto row = std::find_if(rows_.begin(), rows_.end(), [&](const RateRow& each) { return each.name == name; });
  return row == rows_.end() ? 0 : row->rate;
}

absl::StatusOr<std::vector<double>> MedianRates(uint64_t bytes, int rounds,
                                                const std::vector<std::function<absl::Status()>>& contenders) {
  std::vector<std::vector<double>> rates(contenders.size());
  for (int i = -1; i < rounds; ++i) {
    for (size_t contender = 0; contender < contenders.size(); ++contender) {
      const absl::Duration start = MonotonicNow();
      if (absl::Status status = contenders[contender](); !status.ok()) return status;
      const double seconds = absl::ToDoubleSeconds(MonotonicNow() - start);
      if (i >= 0) rates[contender].push_back(static_cast<double>(bytes) / seconds / 1e9);
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& each : rates) {
    std::sort(each.begin(), each.end());
    medians.push_back(each[each.size() / 2]);
  }
  return medians;
}

absl::StatusOr<double> MedianRate(uint64_t bytes, int rounds, const std::function<absl::Status()>& round) {
  const absl::StatusOr<std::vector<double>> rates = MedianRates(bytes, rounds, {round});
  if (!rates.ok()) return rates.status();
  return rates->front();
}

}  // namespace weightstream
