#include "client/digest_comparison.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "client/block_digests.h"
#include "client/failure_rules.h"
#include "client/grpc_deadline.h"
#include "client/held_form.h"
#include "proto/convert.h"
#include "proto/status.h"

namespace weightstream {
namespace {

constexpr size_t kMostDifferences = 100;

class Comparison {
 public:
  Comparison(const WeightSource& source, const ManifestIndex& index, ControlClient& control,
             const ModelVersion& version, const TimeLimits& limits, RetryBudget& budget, StallWatch& watch,
             std::atomic<uint64_t>& compared_bytes)
      : source_(source),
        index_(index),
        control_(control),
        version_(version),
        limits_(limits),
        budget_(budget),
        watch_(watch),
        compared_bytes_(compared_bytes) {}

  absl::StatusOr<VerifyResult> Run() {
    absl::Status status = CompareManifests();
    if (status.ok()) status = CompareBytes();
    if (!status.ok()) return status;
    return std::move(result_);
  }

 private:
  // Finds the exact version, notes what one side lacks, and leaves in pending_ what both have alike.
  absl::Status CompareManifests();
  absl::Status CompareSpec(const TensorSpec& theirs);
  absl::Status CompareBytes();
  // One call, for what is pending.
  absl::Status DigestPending();
  absl::Status CompareDigest(const v1::TensorDigest& digest);
  absl::Duration StallLimit() const;
  void Note(const std::string& tensor, std::string what);

  const WeightSource& source_;
  const ManifestIndex& index_;
  ControlClient& control_;
  const ModelVersion& version_;
  const TimeLimits& limits_;
  RetryBudget& budget_;
  StallWatch& watch_;
  std::atomic<uint64_t>& compared_bytes_;
  absl::flat_hash_set<uint32_t> pending_;
  VerifyResult result_;
};

absl::Status Comparison::CompareManifests() {
  v1::GetManifestRequest request;
  request.set_model(version_.model);
  request.set_version(version_.number);
  const absl::StatusOr<v1::Manifest> manifest = CallUntilAnswered<v1::Manifest>(
      control_, CallKind::kRead, budget_, [&] { return control_.GetManifest(request); }, [] {});
  if (!manifest.ok()) return manifest.status();
  const absl::StatusOr<std::vector<TensorSpec>> theirs = FromProto(manifest->tensors());
  if (!theirs.ok()) return Annotate(absl::InternalError(theirs.status().message()), "the server's manifest");
  result_.version = manifest->version();

  result_.tensors = theirs->size();
  absl::flat_hash_set<absl::string_view> named;
  for (const TensorSpec& spec : *theirs) {
    named.insert(spec.name);
    const absl::Status status = CompareSpec(spec);
    if (!status.ok()) return status;
  }
  for (const TensorSpec& spec : index_.tensors()) {
    if (named.contains(spec.name)) continue;
    ++result_.tensors;
    Note(spec.name, "missing on the server");
  }
  return absl::OkStatus();
}

absl::Status Comparison::CompareSpec(const TensorSpec& theirs) {
  const absl::optional<uint32_t> tensor = index_.Find(theirs.name);
  if (!tensor.has_value()) {
    Note(theirs.name, "not in the source");
    return absl::OkStatus();
  }
  const TensorSpec& ours = index_.tensors()[*tensor];
  if (ours.dtype != theirs.dtype || ours.shape != theirs.shape) {
    Note(theirs.name, absl::StrCat(ShapeString(ours.dtype, ours.shape), " here, ",
                                   ShapeString(theirs.dtype, theirs.shape), " there"));
    return absl::OkStatus();
  }
  if (!pending_.insert(*tensor).second) {
    return absl::InternalError(
        absl::StrCat("the server's manifest names tensor \"", Printable(theirs.name), "\" twice"));
  }
  return absl::OkStatus();
}

absl::Status Comparison::CompareBytes() {
  while (!pending_.empty()) {
    const size_t before = pending_.size();
    const absl::Duration began = MonotonicNow();
    const absl::Status status = DigestPending();
    if (control_.stop().stopped()) return control_.stop().cause();
    if (!status.ok() && RemedyFor(CallKind::kRead, status) != Remedy::kRetry) return status;
    if (pending_.empty()) break;
    const absl::Status failure =
        status.ok() ? absl::InternalError("the server left tensors out of its digests") : status;
    absl::StatusOr<absl::Duration> wait = budget_.ShortWait();
    if (pending_.size() < before) {
      budget_.Progressed();
    } else {
      wait = status.ok() ? budget_.Fruitless(failure) : budget_.NoAnswer(began, failure);
    }
    if (!wait.ok()) return wait.status();
    if (control_.stop().WaitFor(*wait)) return control_.stop().cause();
    if (!control_.WaitUntilConnected(budget_.OutageLeft())) {
      return control_.stop().stopped() ? control_.stop().cause() : budget_.Unreachable(failure);
    }
  }
  return absl::OkStatus();
}

absl::Status Comparison::DigestPending() {
  v1::DigestModelRequest request;
  request.set_model(version_.model);
  request.set_version(result_.version);
  request.set_takes_held_form(true);
  for (uint32_t tensor : pending_) request.add_names(index_.tensors()[tensor].name);

  StopSignal call_stop;
  const StopSignal::Listener from_outside(control_.stop(), [&](const absl::Status& cause) { call_stop.Stop(cause); });
  grpc::ClientContext context;
  const StopSignal::Listener cancel(call_stop, [&context](const absl::Status&) { context.TryCancel(); });
  const StallWatch::Guard guard(watch_, call_stop, StallLimit());
  const std::unique_ptr<grpc::ClientReader<v1::TensorDigest>> stream = control_.stub().DigestModel(&context, request);
  v1::TensorDigest digest;
  absl::Status bad;
  while (bad.ok() && stream->Read(&digest)) {
    watch_.Tick();
    bad = CompareDigest(digest);
  }
  if (!bad.ok()) context.TryCancel();
  const absl::Status end = FromGrpcStatus(stream->Finish());
  if (!bad.ok()) return bad;
  return call_stop.stopped() ? call_stop.cause() : end;
}

absl::Status Comparison::CompareDigest(const v1::TensorDigest& digest) {
  const absl::optional<uint32_t> tensor = index_.Find(digest.spec().name());
  // A repeated one changes nothing.
  if (!tensor.has_value() || pending_.erase(*tensor) == 0) return absl::OkStatus();
  const auto progressed = [this](uint64_t bytes) {
    watch_.Tick();
    compared_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  };
  if (digest.not_held()) {
    ++result_.not_held_tensors;
    progressed(index_.bytes(*tensor));
    return absl::OkStatus();
  }
  const absl::StatusOr<HeldForm> form = HeldForm::Of(index_.tensors()[*tensor], digest);
  if (!form.ok()) return form.status();
  const absl::StatusOr<ByteRanges> ranges = DifferingHeldRanges(*form, source_.data(*tensor), digest, progressed);
  if (!ranges.ok()) return ranges.status();
  result_.total_bytes += form->bytes();
  if (!form->as_pushed()) ++result_.converted_tensors;
  if (!ranges->empty()) {
    Note(digest.spec().name(),
         absl::StrCat(DescribeRanges(*ranges), form->as_pushed() ? "" : " of what is held: ", form->text()));
  }
  return absl::OkStatus();
}

// A tensor's digest comes once all of it was read, so a large one on a slow disk is a long silence.
absl::Duration Comparison::StallLimit() const {
  uint64_t largest = 0;
  for (uint32_t tensor : pending_) largest = std::max(largest, index_.bytes(tensor));
  return limits_.stall + limits_.per_gib * (static_cast<double>(largest) / (uint64_t{1} << 30));
}

void Comparison::Note(const std::string& tensor, std::string what) {
  ++result_.differing_tensors;
  if (result_.differences.size() < kMostDifferences) result_.differences.push_back({tensor, std::move(what)});
}

}  // namespace

absl::StatusOr<VerifyResult> CompareByDigests(const WeightSource& source, const ManifestIndex& index,
                                              ControlClient& control, const ModelVersion& version,
                                              const TimeLimits& limits, RetryBudget& budget, StallWatch& watch,
                                              std::atomic<uint64_t>& compared_bytes) {
  return Comparison(source, index, control, version, limits, budget, watch, compared_bytes).Run();
}

}  // namespace weightstream
