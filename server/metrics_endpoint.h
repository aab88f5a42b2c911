// The HTTP endpoint that Prometheus scrapes.
#ifndef WEIGHTSTREAM_SERVER_METRICS_ENDPOINT_H_
#define WEIGHTSTREAM_SERVER_METRICS_ENDPOINT_H_

#include <prometheus/metric_family.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace weightstream {

// GET /metrics answers with what `collect` returns, in Prometheus' text format; everything else is 404. Few
// connections, a thread for each, one request on each, and short limits on the time of that whole request and on its
// size: who connects and hangs, or sends or reads a byte at a time, holds up scrapers for seconds, and no update, and
// costs no more descriptors than kMostMetricsConnections. The rest waits in the kernel's short queue, or is refused.
inline constexpr int kMostMetricsConnections = 16;

class MetricsEndpoint {
 public:
  // Called for each scrape, from a thread of the endpoint.
  using Collect = std::function<std::vector<prometheus::MetricFamily>()>;

  // Serves on `listen`, HOST:PORT or [V6]:PORT; port 0 takes a free one. INVALID_ARGUMENT for another form,
  // UNAVAILABLE if it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Start(const std::string& listen, Collect collect);

  // As Stop.
  virtual ~MetricsEndpoint() = default;

  // HOST:PORT with the real port.
  virtual const std::string& address() const = 0;

  // Ends the scrapes; `collect` is not called again after it returns. Idempotent.
  virtual void Stop() = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_METRICS_ENDPOINT_H_
