#include "client/read.h"

#include <atomic>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/control_client.h"
#include "client/defaults.h"
#include "client/digest_comparison.h"
#include "client/failure_rules.h"
#include "client/pull_transfer.h"
#include "client/supervised.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

constexpr char kFileName[] = "model.safetensors";

absl::Status ValidateRead(const std::string& server, const ReadOptions& options) {
  absl::Status status = ValidateAddress(server);
  if (status.ok()) status = ValidateModelName(options.model);
  if (status.ok()) status = ValidateTimeLimits(options.limits);
  if (status.ok()) status = ValidateSecurity(options.security, server);
  return status;
}

absl::Status MakeFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  // An existing folder is no error, but an existing file is one without a code here.
  if (!error && std::filesystem::is_directory(folder, error)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("cannot make the folder ", folder, ": ", error ? error.message() : "there is a file of that name"));
}

}  // namespace

absl::StatusOr<PullResult> Pull(const std::string& server, const ReadOptions& options, const std::string& folder,
                                ReadProgressCallback progress, std::function<bool()> cancelled) {
  absl::Status status = ValidateRead(server, options);
  if (!status.ok()) return status;
  absl::StatusOr<std::shared_ptr<const ClientCredentials>> credentials = ClientCredentials::Load(options.security);
  if (!credentials.ok()) return credentials.status();
  status = MakeFolder(folder);
  if (!status.ok()) return status;

  StopSignal stop;
  StallWatch watch;
  ControlClient control(server, options.limits, *std::move(credentials), stop);
  PullTransfer transfer(control, options, (std::filesystem::path(folder) / kFileName).string(), watch);
  absl::StatusOr<PullResult> result;
  const absl::Status ran = RunSupervised([&] { result = transfer.Run(); }, stop, watch, cancelled,
                                         [&] {
                                           if (progress != nullptr && transfer.total_bytes() > 0)
                                             progress(transfer.done_bytes(), transfer.total_bytes());
                                         });
  if (!ran.ok()) return ran;
  if (!result.ok()) return Annotate(result.status(), server);
  return result;
}

absl::StatusOr<VerifyResult> Verify(const WeightSource& source, const std::string& server, const ReadOptions& options,
                                    ReadProgressCallback progress, std::function<bool()> cancelled) {
  const absl::Status status = ValidateRead(server, options);
  if (!status.ok()) return status;
  const absl::StatusOr<uint64_t> total_bytes = ValidateSource(source);
  if (!total_bytes.ok()) return total_bytes.status();
  absl::StatusOr<std::shared_ptr<const ClientCredentials>> credentials = ClientCredentials::Load(options.security);
  if (!credentials.ok()) return credentials.status();

  StopSignal stop;
  StallWatch watch;
  ControlClient control(server, options.limits, *std::move(credentials), stop);
  RetryBudget budget(kDefaultMaxAttempts, options.limits.connect);
  const ManifestIndex index(source.tensors());
  std::atomic<uint64_t> compared_bytes = 0;
  absl::StatusOr<VerifyResult> result;
  const auto compare = [&] {
    result = CompareByDigests(source, index, control, {options.model, options.version}, options.limits, budget, watch,
                              compared_bytes);
  };
  const absl::Status ran = RunSupervised(compare, stop, watch, cancelled, [&] {
    if (progress != nullptr) progress(compared_bytes.load(), *total_bytes);
  });
  if (!ran.ok()) return ran;
  if (!result.ok()) return Annotate(result.status(), server);
  return result;
}

}  // namespace weightstream
