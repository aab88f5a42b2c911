#include "tests/gpu/rates.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {

void RateReport::Add(const std::string& name, double rate, const std::string& of) {
  rows_.push_back({name, rate});
  const double whole = of.empty() ? 0 : this->rate(of);
  const std::string share = whole > 0 ? absl::StrFormat("  %.2f of %s", rate / whole, of) : "";
  absl::PrintF("%-58s %8.2f GB/s%s\n", name, rate, share);
  std::fflush(stdout);
}

void RateReport::Skip(const std::string& name, const std::string& why) {
  absl::PrintF("%-58s not measured: %s\n", name, why);
  std::fflush(stdout);
}

double RateReport::rate(const std::string& name) const {
  const auto row = std::find_if(rows_.begin(), rows_.end(), [&](const Row& each) { return each.name == name; });
  return row == rows_.end() ? 0 : row->rate;
}

absl::StatusOr<double> MedianRate(uint64_t bytes, int rounds, const std::function<absl::Status()>& round) {
  std::vector<double> rates;
  for (int i = -1; i < rounds; ++i) {
    const absl::Duration start = MonotonicNow();
    if (absl::Status status = round(); !status.ok()) return status;
    const double seconds = absl::ToDoubleSeconds(MonotonicNow() - start);
    if (i >= 0) rates.push_back(static_cast<double>(bytes) / seconds / 1e9);
  }
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

}  // namespace weightstream
