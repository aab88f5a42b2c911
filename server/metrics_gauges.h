// What the server holds at the moment of a scrape, as Prometheus metrics: models, updates in flight, staging, process.
#ifndef WEIGHTSTREAM_SERVER_METRICS_GAUGES_H_
#define WEIGHTSTREAM_SERVER_METRICS_GAUGES_H_

#include <prometheus/metric_family.h>

#include <vector>

#include "kernels/device.h"
#include "kernels/staging.h"
#include "server/commit_hook_runner.h"
#include "server/model_registry.h"

namespace weightstream {

// Per model: versions, the current one and its age, bytes held and made ready, and how far the update in flight is.
std::vector<prometheus::MetricFamily> ModelMetrics(const ModelRegistry& registry, absl::Time now);

// Per model: what became of the commit hook. Nothing where there is none (null).
std::vector<prometheus::MetricFamily> CommitHookMetrics(const ModelRegistry& registry, const CommitHookRunner* hooks);

// Whether the device still works.
std::vector<prometheus::MetricFamily> DeviceMetrics(const Device& device);

// Slots in use, and how often and how long chunks waited for one. Nothing without a ring (null).
std::vector<prometheus::MetricFamily> StagingMetrics(const StagingRing* staging);

// Memory, processor time, files: under the names that every Prometheus client library uses. What /proc does not tell
// is left out.
std::vector<prometheus::MetricFamily> ProcessMetrics();

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_METRICS_GAUGES_H_
