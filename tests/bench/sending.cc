#include "tests/bench/sending.h"

#include <cstdio>
#include <string>
#include <thread>

#include "absl/flags/flag.h"
#include "tests/bench/round_report.h"

ABSL_FLAG(uint64_t, total_mib, 4096, "MiB to send.");
ABSL_FLAG(uint64_t, period_mib, 1024, "MiB of distinct bytes.");
ABSL_FLAG(std::string, source_file, "",
          "File in shared memory that holds the distinct bytes, so that they are made once for many rounds; made where "
          "there is none. Without it each run makes its own.");
ABSL_FLAG(int, connections, 2, "TCP connections, each with its share of the bytes.");

namespace weightstream::bench {

absl::StatusOr<std::unique_ptr<CycledBuffer>> SourceFromFlags(uint64_t bytes) {
  return CycledBuffer::Create(bytes, absl::GetFlag(FLAGS_period_mib) << 20, absl::GetFlag(FLAGS_source_file));
}

std::vector<Share> SplitOverConnections(absl::string_view bytes, int connections) {
  const uint64_t size = bytes.size() / static_cast<uint64_t>(connections);
  std::vector<Share> shares;
  for (int i = 0; i < connections; ++i) {
    const uint64_t begin = static_cast<uint64_t>(i) * size;
    shares.push_back({begin, bytes.substr(begin, i + 1 == connections ? absl::string_view::npos : size)});
  }
  return shares;
}

absl::Status SendShares(const std::vector<Share>& shares, const std::function<absl::Status(const Share&)>& send) {
  std::vector<absl::Status> outcomes(shares.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < shares.size(); ++i) threads.emplace_back([&, i] { outcomes[i] = send(shares[i]); });
  for (std::thread& thread : threads) thread.join();
  absl::Status first;
  for (const absl::Status& outcome : outcomes) first.Update(outcome);
  return first;
}

int RunSender(const char* program, const std::function<absl::Status(const Share&)>& send) {
  const int connections = absl::GetFlag(FLAGS_connections);
  if (connections < 1) {
    std::fprintf(stderr, "%s: --connections is %d; give 1 or more\n", program, connections);
    return 2;
  }
  const auto source = SourceFromFlags(absl::GetFlag(FLAGS_total_mib) << 20);
  absl::Status status = source.status();
  if (status.ok()) {
    const absl::string_view bytes = (*source)->bytes();
    const std::vector<Share> shares = SplitOverConnections(bytes, connections);
    const RoundReport report;
    status = SendShares(shares, send);
    if (status.ok()) report.Print(bytes.size());
  }
  if (!status.ok()) std::fprintf(stderr, "%s: %s\n", program, status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace weightstream::bench
