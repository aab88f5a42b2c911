#include "server/metrics_gauges.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace weightstream {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Family(MetricType type, const char* name, const char* help) {
  MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  return family;
}

void AddValue(MetricFamily& family, double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  family.metric.push_back(std::move(metric));
}

MetricFamily Gauge(const char* name, const char* help) { return Family(MetricType::Gauge, name, help); }

MetricFamily Value(MetricType type, const char* name, const char* help, double value) {
  MetricFamily family = Family(type, name, help);
  AddValue(family, value);
  return family;
}

// The families of the models, filled one model after the other.
struct ModelFamilies {
  MetricFamily versions = Gauge("weightstream_model_versions", "Committed versions held of a model.");
  MetricFamily current = Gauge("weightstream_model_current_version", "The model's current version; 0 if it has none.");
  MetricFamily age = Gauge("weightstream_model_current_version_age_seconds",
                           "How long ago the model's current version was committed.");
  MetricFamily held = Gauge("weightstream_model_held_bytes", "Bytes of the committed versions held of a model.");
  MetricFamily prepared = Gauge("weightstream_model_prepared_bytes", "Memory made ready for the model's next version.");
  MetricFamily expected =
      Gauge("weightstream_update_expected_bytes", "Bytes of the version that an update in flight brings.");
  MetricFamily landed = Gauge("weightstream_update_landed_bytes", "Bytes of an update in flight that are in place.");
  MetricFamily whole =
      Gauge("weightstream_model_whole", "1 while readers of a model have a whole version, 0 while none is current.");
  MetricFamily in_place =
      Gauge("weightstream_update_in_place", "1 for an update in flight that is written over the current version.");
  MetricFamily streams = Gauge("weightstream_update_open_streams", "Open Push streams of an update in flight.");

  void Add(const ModelSnapshot& model, absl::Time now) {
    const std::vector<ClientMetric::Label> labels = {{"model", model.name}};
    AddValue(versions, static_cast<double>(model.versions.size()), labels);
    AddValue(current, static_cast<double>(model.current), labels);
    AddValue(whole, model.whole() ? 1 : 0, labels);
    AddValue(prepared, static_cast<double>(model.prepared_bytes), labels);
    double bytes = 0;
    for (const VersionRecord& version : model.versions) {
      bytes += static_cast<double>(version.total_bytes);
      if (version.version == model.current) AddValue(age, absl::ToDoubleSeconds(now - version.commit_time), labels);
    }
    AddValue(held, bytes, labels);
    if (model.updates.empty() || IsFinal(model.updates.front().state)) return;
    const UpdateRecord& update = model.updates.front();
    AddValue(expected, static_cast<double>(update.total_bytes), labels);
    AddValue(landed, static_cast<double>(update.landed_bytes), labels);
    AddValue(streams, static_cast<double>(update.open_streams), labels);
    AddValue(in_place, update.mode == UpdateMode::kInPlace ? 1 : 0, labels);
  }
};

double OpenFiles() {
  std::error_code ignored;
  const std::filesystem::directory_iterator files("/proc/self/fd", ignored);
  return static_cast<double>(std::distance(files, std::filesystem::directory_iterator()));
}

// Since the machine's start, in clock ticks; 0 if it is not told. The 22nd field of /proc/self/stat: proc(5).
double StartTicks() {
  std::string line;
  std::getline(std::ifstream("/proc/self/stat"), line);
  // The second field is the program's name in parentheses, which may hold anything.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  constexpr size_t kStartTime = 19;
  const std::vector<std::string> fields = absl::StrSplit(line.substr(name_end + 2), ' ');
  double ticks = 0;
  return fields.size() > kStartTime && absl::SimpleAtod(fields[kStartTime], &ticks) ? ticks : 0;
}

// Of the machine, in seconds since 1970: the line `btime` of /proc/stat.
double BootTime() {
  std::ifstream stat("/proc/stat");
  std::string word;
  double seconds = 0;
  while (stat >> word) {
    if (word == "btime" && stat >> seconds) return seconds;
  }
  return 0;
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

std::vector<MetricFamily> ModelMetrics(const ModelRegistry& registry, absl::Time now) {
  ModelFamilies families;
  for (const std::shared_ptr<Model>& model : registry.All()) families.Add(model->Snapshot(), now);
  return {std::move(families.versions), std::move(families.current),  std::move(families.age),
          std::move(families.held),     std::move(families.prepared), std::move(families.expected),
          std::move(families.landed),   std::move(families.streams),  std::move(families.whole),
          std::move(families.in_place)};
}

std::vector<MetricFamily> CommitHookMetrics(const ModelRegistry& registry, const CommitHookRunner* hooks) {
  if (hooks == nullptr) return {};
  MetricFamily ended = Family(MetricType::Counter, "weightstream_commit_hooks_total",
                              "Versions of a model for which the commit hook came to an end, by how.");
  MetricFamily failed_attempts = Family(MetricType::Counter, "weightstream_commit_hook_failed_attempts_total",
                                        "Attempts of the commit hook that failed.");
  for (const std::shared_ptr<Model>& model : registry.All()) {
    const CommitHookCounts counts = hooks->Counts(model->name());
    const std::pair<const char*, uint64_t> outcomes[] = {
        {"succeeded", counts.succeeded}, {"failed", counts.failed}, {"superseded", counts.superseded}};
    for (const auto& [outcome, count] : outcomes) {
      AddValue(ended, static_cast<double>(count), {{"model", model->name()}, {"outcome", outcome}});
    }
    AddValue(failed_attempts, static_cast<double>(counts.failed_attempts), {{"model", model->name()}});
  }
  return {std::move(ended), std::move(failed_attempts)};
}

std::vector<MetricFamily> DeviceMetrics(const Device& device) {
  return {Value(MetricType::Gauge, "weightstream_device_failed",
                "1 once the device can no longer be used by this process, which is then to be started again.",
                device.Health().ok() ? 0 : 1)};
}

std::vector<MetricFamily> StagingMetrics(const StagingRing* staging) {
  if (staging == nullptr) return {};
  const StagingRing::Stats stats = staging->stats();
  return {
      Value(MetricType::Gauge, "weightstream_staging_slots", "Slots of the staging ring.",
            static_cast<double>(stats.slots)),
      Value(MetricType::Gauge, "weightstream_staging_slots_in_use", "Slots of the staging ring that are in use.",
            static_cast<double>(stats.slots_in_use)),
      Value(MetricType::Counter, "weightstream_staging_waits_total", "Chunks that had to wait for a staging slot.",
            static_cast<double>(stats.waits)),
      Value(MetricType::Counter, "weightstream_staging_wait_seconds_total",
            "How long chunks waited for a staging slot.", absl::ToDoubleSeconds(stats.waited)),
  };
}

std::vector<MetricFamily> ProcessMetrics() {
  std::vector<MetricFamily> families;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  families.push_back(Value(MetricType::Counter, "process_cpu_seconds_total", "User and system CPU time.",
                           Seconds(usage.ru_utime) + Seconds(usage.ru_stime)));
  double total_pages = 0;
  double resident_pages = 0;
  if (std::ifstream("/proc/self/statm") >> total_pages >> resident_pages) {
    const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
    families.push_back(Value(MetricType::Gauge, "process_resident_memory_bytes",
                             "Resident memory, the mapped versions included.", resident_pages * page));
    families.push_back(Value(MetricType::Gauge, "process_virtual_memory_bytes", "Virtual memory.", total_pages * page));
  }
  families.push_back(Value(MetricType::Gauge, "process_open_fds", "Open file descriptors.", OpenFiles()));
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    families.push_back(Value(MetricType::Gauge, "process_max_fds", "Most file descriptors that may be open.",
                             static_cast<double>(files.rlim_cur)));
  }
  const double boot = BootTime();
  const double ticks = StartTicks();
  if (boot > 0 && ticks > 0) {
    families.push_back(Value(MetricType::Gauge, "process_start_time_seconds", "When it was started, since 1970.",
                             boot + ticks / static_cast<double>(sysconf(_SC_CLK_TCK))));
  }
  return families;
}

}  // namespace weightstream
