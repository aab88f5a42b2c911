// Clients that keep updating: each has a model of its own, in this process's memory, and pushes the next version of it
// as soon as the one before is done.
//
//   load_client ADDRESS --clients=64 --seconds=600 --tensors=8 --model_kib=1024
//   load_client ADDRESS --clients=1 --updates=10000
//
// In rounds, after each of which nothing is under way and all connections are closed, until a line on standard input
// says to go on: what the server has then, it keeps.
//
// Prints one JSON object a line: {"progress": updates so far} every --report_ms, {"rest": updates so far} after each
// round, and at the end a line with each client's updates and the times from BeginUpdate to the commit's answer, in
// seconds. Any failed update ends it with 1.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/push.h"
#include "client/weight_source.h"
#include "tensor/monotonic_clock.h"

ABSL_FLAG(int, clients, 64, "Clients at a time, each with a model of its own.");
ABSL_FLAG(double, seconds, 0, "How long to go on, the rounds together; 0 until --updates.");
ABSL_FLAG(uint64_t, updates, 0, "Updates of each client, in all rounds together; 0 until --seconds.");
ABSL_FLAG(int, rounds, 4, "Rounds, with a rest after each.");
ABSL_FLAG(int, tensors, 8, "Tensors of each model.");
ABSL_FLAG(uint64_t, model_kib, 1024, "KiB of each model.");
ABSL_FLAG(uint64_t, report_ms, 1000, "Milliseconds between two lines of progress.");
ABSL_FLAG(int, connections, 0, "Connections of each update; 0 leaves it to the library.");

namespace weightstream::load {
namespace {

// What all clients share.
struct Run {
  explicit Run(std::string server) : address(std::move(server)) {}

  const std::string address;
  std::atomic<uint64_t> updates = 0;
  std::atomic<int> running = 0;
  absl::Mutex mutex;
  absl::Status failure ABSL_GUARDED_BY(mutex);

  bool Failed() {
    absl::MutexLock lock(&mutex);
    return !failure.ok();
  }
};

class Client {
 public:
  Client(Run& run, int number) : run_(run), bytes_(absl::GetFlag(FLAGS_model_kib) << 10, '\0') {
    options_.model = absl::StrCat("load-", number);
    options_.connections = absl::GetFlag(FLAGS_connections);
  }

  const std::vector<double>& seconds() const { return seconds_; }

  // One round: until `end` of MonotonicNow(), or until it has made so many updates, in all rounds together.
  void Work(absl::Duration end, uint64_t wanted) {
    while (!run_.Failed() && MonotonicNow() < end && seconds_.size() < wanted) {
      const absl::Status status = UpdateOnce();
      if (status.ok()) continue;
      absl::MutexLock lock(&run_.mutex);
      run_.failure.Update(absl::Status(status.code(), absl::StrCat(options_.model, ": ", status.message())));
    }
    run_.running.fetch_sub(1);
  }

 private:
  absl::Status UpdateOnce() {
    options_.version = seconds_.size() + 1;
    // Every page differs from the version before.
    for (size_t at = 0; at < bytes_.size(); at += 4096) bytes_[at] = static_cast<char>(options_.version + at / 4096);
    const uint64_t tensors = static_cast<uint64_t>(absl::GetFlag(FLAGS_tensors));
    const uint64_t each = bytes_.size() / tensors;
    std::vector<MemoryTensor> parts;
    for (uint64_t i = 0; i < tensors; ++i) {
      parts.push_back(
          {{absl::StrCat("layer.", i), DType::kU8, {each}}, absl::string_view(bytes_).substr(i * each, each)});
    }
    const auto source = NewMemorySource(std::move(parts));
    if (!source.ok()) return source.status();
    const auto result = Push(**source, {run_.address}, options_);
    if (!result.ok()) return result.status();
    if (!result->status.ok()) return result->status;
    const ServerOutcome& outcome = result->servers.front();
    // Retries would hide what this is to find.
    if (outcome.retries > 0) return absl::InternalError(absl::StrCat(outcome.retries, " retries in an update"));
    seconds_.push_back(absl::ToDoubleSeconds(outcome.begin_time + outcome.send_time + outcome.commit_time));
    run_.updates.fetch_add(1);
    return absl::OkStatus();
  }

  Run& run_;
  std::string bytes_;
  PushOptions options_;
  std::vector<double> seconds_;
};

void ReportProgress(Run& run) {
  while (run.running.load() > 0) {
    std::printf("{\"progress\": %llu}\n", static_cast<unsigned long long>(run.updates.load()));
    std::fflush(stdout);
    absl::MutexLock lock(&run.mutex);
    run.mutex.AwaitWithTimeout(absl::Condition(
                                   +[](std::atomic<int>* running) { return running->load() == 0; }, &run.running),
                               absl::Milliseconds(absl::GetFlag(FLAGS_report_ms)));
  }
}

void RunRound(Run& run, const std::vector<std::unique_ptr<Client>>& clients, int round) {
  const int rounds = absl::GetFlag(FLAGS_rounds);
  const uint64_t updates = absl::GetFlag(FLAGS_updates);
  const absl::Duration end =
      updates > 0 ? absl::InfiniteDuration() : MonotonicNow() + absl::Seconds(absl::GetFlag(FLAGS_seconds)) / rounds;
  const uint64_t wanted = updates > 0 ? updates * (round + 1) / rounds : std::numeric_limits<uint64_t>::max();
  run.running = static_cast<int>(clients.size());
  std::vector<std::thread> threads;
  for (const auto& client : clients) threads.emplace_back([&] { client->Work(end, wanted); });
  ReportProgress(run);
  for (std::thread& thread : threads) thread.join();
}

void Rest(Run& run) {
  std::printf("{\"rest\": %llu}\n", static_cast<unsigned long long>(run.updates.load()));
  std::fflush(stdout);
  int character = std::getchar();
  while (character != '\n' && character != EOF) character = std::getchar();
}

absl::Status RunAll(const std::string& address) {
  Run run(address);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < absl::GetFlag(FLAGS_clients); ++i) clients.push_back(std::make_unique<Client>(run, i));
  for (int round = 0; round < absl::GetFlag(FLAGS_rounds) && !run.Failed(); ++round) {
    RunRound(run, clients, round);
    Rest(run);
  }
  absl::MutexLock lock(&run.mutex);
  if (!run.failure.ok()) return run.failure;
  std::vector<size_t> counts;
  std::vector<double> seconds;
  for (const auto& client : clients) {
    counts.push_back(client->seconds().size());
    seconds.insert(seconds.end(), client->seconds().begin(), client->seconds().end());
  }
  std::printf("{\"updates\": [%s], \"seconds\": [%s]}\n", absl::StrJoin(counts, ", ").c_str(),
              absl::StrJoin(seconds, ", ", [](std::string* out, double s) { absl::StrAppend(out, s); }).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace weightstream::load

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() != 2 || (absl::GetFlag(FLAGS_seconds) <= 0) == (absl::GetFlag(FLAGS_updates) == 0) ||
      absl::GetFlag(FLAGS_rounds) < 1) {
    std::fprintf(stderr, "usage: load_client ADDRESS --seconds=N | --updates=N\n");
    return 2;
  }
  const absl::Status status = weightstream::load::RunAll(arguments[1]);
  if (!status.ok()) std::fprintf(stderr, "load_client: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
