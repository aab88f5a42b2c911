#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/push.h"
#include "client/weight_source.h"
#include "server/server.h"
#include "tests/gpu/rates.h"
#include "tests/gpu/timeline.h"
#include "tests/gpu/tracing_device.h"

namespace weightstream {
namespace {

// As large as the matrices of a model of some ten billion parameters.
constexpr uint64_t kTensorBytes = uint64_t{64} << 20;
constexpr char kModel[] = "benchmark";
// Of the picture: enough to see the pattern, few enough to see each.
constexpr int kCopiesShown = 24;
constexpr int kTextColumns = 100;

// The same bytes for every push and every contender.
class PushedBytes {
 public:
  explicit PushedBytes(uint64_t bytes) : bytes_(bytes, '\0') {
    // Not compressible, and no page like another.
    uint64_t state = 88172645463325252;
    for (uint64_t at = 0; at + sizeof(state) <= bytes; at += sizeof(state)) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      std::copy_n(reinterpret_cast<const char*>(&state), sizeof(state), bytes_.begin() + static_cast<ptrdiff_t>(at));
    }
  }

  absl::StatusOr<std::unique_ptr<WeightSource>> Source() const {
    std::vector<MemoryTensor> tensors;
    for (uint64_t at = 0; at < bytes_.size(); at += kTensorBytes) {
      const absl::string_view data = absl::string_view(bytes_).substr(at, kTensorBytes);
      const std::string name = absl::StrFormat("layer.%03d.weight", tensors.size());
      tensors.push_back({{.name = name, .dtype = DType::kBF16, .shape = {data.size() / 2}}, data});
    }
    return NewMemorySource(std::move(tensors));
  }

 private:
  std::string bytes_;
};

// One contender's server, and the pushes to it.
class PushedServer {
 public:
  absl::Status Start(std::unique_ptr<Device> device, const std::string& data_dir, const BenchmarkSizes& sizes) {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.data_dir = data_dir;
    options.limits.staging_bytes = sizes.staging_bytes;
    // Memory for two versions at a time, and no more.
    options.limits.keep_versions = 1;
    auto server = Server::Start(options, std::move(device));
    if (!server.ok()) return server.status();
    server_ = *std::move(server);
    return absl::OkStatus();
  }

  // A whole push of the next version, in GB/s.
  absl::StatusOr<double> Push(const WeightSource& source) {
    PushOptions options;
    options.model = kModel;
    const auto result = weightstream::Push(source, {server_->address()}, options);
    if (!result.ok()) return result.status();
    if (!result->status.ok()) return result->status;
    return static_cast<double>(result->total_bytes) / absl::ToDoubleSeconds(result->elapsed) / 1e9;
  }

 private:
  std::unique_ptr<Server> server_;
};

double Median(std::vector<double> rates) {
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

absl::Status Annotated(const std::string& name, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
}

// To what a reader wants to know.
std::string Short(absl::Duration duration) {
  return absl::FormatDuration(absl::Trunc(duration, absl::Microseconds(10)));
}

void PrintOverlap(const std::string& name, const std::vector<ActivitySpan>& spans) {
  const Overlap overlap = OverlapOf(spans);
  absl::PrintF(
      "%s: of %s, receiving %s, copying %s, both at a time %s: %.2f of the shorter is hidden behind the other\n", name,
      Short(overlap.elapsed), Short(overlap.receiving), Short(overlap.copying), Short(overlap.both), overlap.hidden());
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  return file ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("cannot write ", path));
}

}  // namespace

absl::Status MeasurePushes(const std::vector<PushContender>& contenders, const std::string& data_dir,
                           const BenchmarkSizes& sizes, RateReport& report) {
  const PushedBytes bytes(sizes.push_bytes);
  const auto source = bytes.Source();
  if (!source.ok()) return source.status();
  std::vector<PushedServer> servers(contenders.size());
  for (size_t i = 0; i < contenders.size(); ++i) {
    auto device = contenders[i].open_device();
    if (!device.ok()) return device.status();
    absl::Status started = servers[i].Start(*std::move(device), absl::StrCat(data_dir, "/", i), sizes);
    if (!started.ok()) return started;
  }
  std::vector<std::vector<double>> rates(contenders.size());
  for (int round = -1; round < sizes.rounds; ++round) {
    for (size_t i = 0; i < contenders.size(); ++i) {
      const absl::StatusOr<double> rate = servers[i].Push(**source);
      if (!rate.ok()) return Annotated(contenders[i].name, rate.status());
      if (round >= 0) rates[i].push_back(*rate);
    }
  }
  for (size_t i = 0; i < contenders.size(); ++i) {
    report.Add(contenders[i].name, Median(rates[i]), contenders[i].of, contenders[i].to_reach);
  }
  return absl::OkStatus();
}

absl::Status TracePush(const PushContender& contender, const std::string& data_dir, const BenchmarkSizes& sizes,
                       const std::string& svg_path) {
  const PushedBytes bytes(sizes.push_bytes);
  const auto source = bytes.Source();
  if (!source.ok()) return source.status();
  auto device = contender.open_device();
  if (!device.ok()) return device.status();
  auto tracing = std::make_unique<TracingDevice>(*std::move(device));
  TracingDevice* const traced = tracing.get();
  PushedServer server;
  absl::Status status = server.Start(std::move(tracing), absl::StrCat(data_dir, "/traced"), sizes);
  // The first warms up.
  for (int i = 0; status.ok() && i < 2; ++i) {
    static_cast<void>(traced->TakeSpans());
    status = server.Push(**source).status();
  }
  if (!status.ok()) return status;
  const std::vector<ActivitySpan> spans = traced->TakeSpans();
  const std::vector<ActivitySpan> middle = Middle(spans, kCopiesShown);
  PrintOverlap(contender.name, spans);
  absl::PrintF("%s", TimelineText(middle, kTextColumns));
  std::fflush(stdout);
  if (svg_path.empty()) return absl::OkStatus();
  return WriteFile(svg_path, TimelineSvg(middle, absl::StrCat(contender.name, ": the middle of it")));
}

}  // namespace weightstream
