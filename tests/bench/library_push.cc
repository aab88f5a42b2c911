// The contender: the real client library, pushing to real weightstream-servers.
//
//   library_push ADDRESS[,ADDRESS...] --shape=one|llama|small --total_mib=4096 --connections=2 --chunk_kib=0
//
// One round: a whole push, commit included; prints a report.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/push.h"
#include "client/weight_source.h"
#include "process/grpc_tuning.h"
#include "process/lock_checks.h"
#include "process/openssl_at_exit.h"
#include "tests/bench/round_report.h"
#include "tests/bench/sending.h"
#include "tests/bench/shapes.h"

ABSL_FLAG(std::string, shape, "one",
          "one: a single tensor; llama: the tensors of a Llama-3-8B, scaled; small: tensors of 4 KiB.");
ABSL_FLAG(uint64_t, small_tensors, 100000, "How many tensors of 4 KiB; --total_mib does not count for these.");
ABSL_FLAG(uint64_t, chunk_kib, 0, "KiB of data in one message; 0 leaves it to the library.");
ABSL_FLAG(std::string, tls_ca, "", "PEM file of the CA of the servers' certificates; empty is plaintext.");
ABSL_FLAG(std::string, model, "bench", "The model's name on the server.");
ABSL_FLAG(std::string, step, "", "What the version's metadata says under \"step\"; empty: there is none.");

namespace {

uint64_t TotalBytes() {
  if (absl::GetFlag(FLAGS_shape) != "small") return absl::GetFlag(FLAGS_total_mib) << 20;
  return absl::GetFlag(FLAGS_small_tensors) * weightstream::bench::kSmallTensorBytes;
}

absl::StatusOr<std::vector<weightstream::MemoryTensor>> Cut(absl::string_view bytes) {
  const std::string shape = absl::GetFlag(FLAGS_shape);
  if (shape == "one") return weightstream::bench::CutOne(bytes);
  if (shape == "llama") return weightstream::bench::CutLlama(bytes);
  if (shape == "small") return weightstream::bench::CutSmall(bytes);
  return absl::InvalidArgumentError(absl::StrCat("--shape=", shape, " is none of one, llama, small"));
}

absl::Status Push(const std::string& addresses) {
  const auto buffer = weightstream::bench::SourceFromFlags(TotalBytes());
  if (!buffer.ok()) return buffer.status();
  auto tensors = Cut((*buffer)->bytes());
  if (!tensors.ok()) return tensors.status();
  weightstream::Metadata metadata;
  if (!absl::GetFlag(FLAGS_step).empty()) metadata["step"] = absl::GetFlag(FLAGS_step);
  const auto source = weightstream::NewMemorySource(*std::move(tensors), std::move(metadata));
  if (!source.ok()) return source.status();
  weightstream::PushOptions options;
  options.model = absl::GetFlag(FLAGS_model);
  options.connections = absl::GetFlag(FLAGS_connections);
  options.bucket_limit_bytes = absl::GetFlag(FLAGS_chunk_kib) << 10;
  options.security.tls_ca = absl::GetFlag(FLAGS_tls_ca);
  const weightstream::bench::RoundReport report;
  const auto result = weightstream::Push(**source, absl::StrSplit(addresses, ','), options);
  if (!result.ok()) return result.status();
  if (!result->status.ok()) return result->status;
  report.Print(result->total_bytes);
  for (const weightstream::ServerOutcome& server : result->servers) {
    std::fprintf(stderr, "%s: begin %.3f s, send %.3f s, commit %.3f s\n", server.server.c_str(),
                 absl::ToDoubleSeconds(server.begin_time), absl::ToDoubleSeconds(server.send_time),
                 absl::ToDoubleSeconds(server.commit_time));
  }
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  weightstream::KeepOpensslAtExit();
  weightstream::LeaveOutLockChecks();
  weightstream::TuneGrpcForStreaming();
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() != 2) {
    std::fprintf(stderr, "usage: library_push ADDRESS[,ADDRESS...]\n");
    return 2;
  }
  const absl::Status status = Push(arguments[1]);
  if (!status.ok()) std::fprintf(stderr, "library_push: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
