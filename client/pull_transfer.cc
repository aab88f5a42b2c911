#include "client/pull_transfer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/defaults.h"
#include "client/failure_rules.h"
#include "client/grpc_deadline.h"
#include "client/raw_stream.h"
#include "kernels/checksum.h"
#include "proto/convert.h"
#include "proto/status.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {
namespace {

absl::Status BadChunk(absl::string_view name, absl::string_view what) {
  return absl::InternalError(absl::StrCat("the server sent a chunk of tensor \"", Printable(name), "\" ", what,
                                          "; is it a weightstream server of a compatible version?"));
}

uint32_t Checksum(absl::Span<const absl::string_view> pieces) {
  uint32_t crc = 0;
  for (absl::string_view piece : pieces) crc = ExtendCrc32c(crc, piece);
  return crc;
}

}  // namespace

PullTransfer::PullTransfer(ControlClient& control, const ReadOptions& options, std::string path, StallWatch& watch)
    : control_(control),
      options_(options),
      path_(std::move(path)),
      watch_(watch),
      budget_(kDefaultMaxAttempts, options.limits.connect) {}

absl::StatusOr<PullResult> PullTransfer::Run() {
  absl::Status status = Open();
  if (status.ok()) status = TransferAll();
  if (status.ok()) status = writer_->Finish();
  if (!status.ok()) return status;
  PullResult result;
  result.version = version_;
  result.total_bytes = total_bytes();
  result.tensors = specs_.size();
  result.path = path_;
  return result;
}

absl::Status PullTransfer::Open() {
  v1::GetManifestRequest request;
  request.set_model(options_.model);
  request.set_version(options_.version);
  const absl::StatusOr<v1::Manifest> manifest = CallUntilAnswered<v1::Manifest>(
      control_, CallKind::kRead, budget_, [&] { return control_.GetManifest(request); }, [] {});
  if (!manifest.ok()) return manifest.status();
  // From here on this very version, though another may become current.
  version_ = manifest->version();
  const absl::StatusOr<std::vector<TensorSpec>> specs = FromProto(manifest->tensors());
  if (!specs.ok()) return Annotate(absl::InternalError(specs.status().message()), "the server's manifest");
  std::string header;
  absl::StatusOr<SafetensorsLayout> layout = LayOutSafetensors(*specs, FromProto(manifest->metadata()), &header);
  if (!layout.ok()) return Annotate(absl::InternalError(layout.status().message()), "the server's manifest");
  if (manifest->has_manifest_crc32c() && manifest->manifest_crc32c() != ExtendCrc32c(0, header)) {
    return absl::DataLossError(absl::StrCat("the manifest of version ", version_, " of \"", options_.model,
                                            "\" does not match its checksum: it was damaged on the way; pull again"));
  }

  for (const PlacedTensor& tensor : layout->tensors) {
    specs_.push_back(tensor.spec);
    missing_.emplace_back(ByteRange{0, tensor.range.size()});
  }
  index_ = std::make_unique<ManifestIndex>(specs_);
  total_bytes_.store(layout->data_bytes);
  absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer = SafetensorsWriter::Create(path_, *std::move(layout));
  if (!writer.ok()) return writer.status();
  writer_ = *std::move(writer);
  return absl::OkStatus();
}

absl::Status PullTransfer::TransferAll() {
  while (done_bytes() < total_bytes()) {
    const uint64_t before = done_bytes();
    const absl::Duration began = MonotonicNow();
    const absl::Status status = TransferMissing();
    if (control_.stop().stopped()) return control_.stop().cause();
    if (done_bytes() == total_bytes()) break;
    if (!status.ok() && RemedyFor(CallKind::kRead, status) != Remedy::kRetry) return status;
    const absl::Status failure = !status.ok() ? status : absl::InternalError("the server left out part of the version");
    const absl::Status wait = WaitAfter(began, failure, done_bytes() > before);
    if (!wait.ok()) return wait;
  }
  return absl::OkStatus();
}

absl::Status PullTransfer::TransferMissing() {
  const v1::PullRequest request = RequestMissing();
  StopSignal call_stop;
  const StopSignal::Listener from_outside(control_.stop(), [&](const absl::Status& cause) { call_stop.Stop(cause); });
  grpc::ClientContext context;
  const StopSignal::Listener cancel(call_stop, [&context](const absl::Status&) { context.TryCancel(); });
  const StallWatch::Guard guard(watch_, call_stop, options_.limits.stall);
  const std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> stream =
      OpenRawPull(control_.channel(), context, request);
  grpc::ByteBuffer message;
  absl::Status bad;
  while (bad.ok() && stream->Read(&message)) {
    watch_.Tick();
    bad = Receive(message);
  }
  if (!bad.ok()) context.TryCancel();
  const absl::Status end = FromGrpcStatus(stream->Finish());
  if (!bad.ok()) return bad;
  return call_stop.stopped() ? call_stop.cause() : end;
}

v1::PullRequest PullTransfer::RequestMissing() const {
  v1::PullRequest request;
  request.set_model(options_.model);
  request.set_version(version_);
  // At first everything, which the request says by naming nothing.
  if (done_bytes() == 0) return request;
  for (size_t i = 0; i < specs_.size(); ++i) {
    if (!missing_[i].empty()) *request.add_parts() = ToProto(specs_[i].name, missing_[i].ranges());
  }
  return request;
}

absl::Status PullTransfer::Receive(grpc::ByteBuffer& message) {
  const absl::Status parsed = chunk_.Parse(message);
  // Asked for again, as what the checksums below find.
  if (absl::IsDataLoss(parsed)) return parsed;
  if (!parsed.ok()) return Annotate(absl::InternalError(parsed.message()), "the server sent a malformed chunk");
  if (absl::Status intact = chunk_.CheckIntact(); !intact.ok()) return intact;
  const ChunkHeader& header = chunk_.header();
  const absl::optional<uint32_t> tensor = index_->Find(header.name);
  if (!tensor.has_value()) return BadChunk(header.name, "that its manifest does not hold");
  const absl::Status valid = CheckChunk(header, chunk_.data_bytes(), *tensor);
  if (!valid.ok()) return valid;

  const uint64_t data_begin = writer_->layout().tensors[*tensor].range.begin;
  uint64_t offset = header.offset;
  for (absl::string_view piece : chunk_.pieces()) {
    const absl::Status written = writer_->Write(data_begin + offset, piece);
    if (!written.ok()) return written;
    offset += piece.size();
  }
  done_bytes_.fetch_add(missing_[*tensor].Remove({header.offset, offset}), std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status PullTransfer::CheckChunk(const ChunkHeader& header, uint64_t data_bytes, uint32_t tensor) const {
  const TensorSpec& spec = specs_[tensor];
  if (header.dtype != DTypeName(spec.dtype) ||
      !std::equal(header.shape.begin(), header.shape.end(), spec.shape.begin(), spec.shape.end())) {
    return BadChunk(header.name, "with another dtype or shape than its manifest");
  }
  const uint64_t tensor_bytes = index_->bytes(tensor);
  if (header.offset > tensor_bytes || data_bytes > tensor_bytes - header.offset) {
    return BadChunk(header.name, absl::StrCat("that reaches past its end: ", data_bytes, " bytes at ", header.offset,
                                              " of ", tensor_bytes));
  }
  if (!header.crc32c.has_value()) return BadChunk(header.name, "without a checksum");
  if (Checksum(chunk_.pieces()) != *header.crc32c) {
    return absl::DataLossError(absl::StrCat("tensor \"", Printable(header.name), "\", bytes [", header.offset, ", ",
                                            header.offset + data_bytes,
                                            "): the data do not match their checksum; they were damaged on the way"));
  }
  return absl::OkStatus();
}

absl::Status PullTransfer::WaitAfter(absl::Duration began, const absl::Status& failure, bool progressed) {
  absl::StatusOr<absl::Duration> wait = budget_.ShortWait();
  if (progressed) {
    budget_.Progressed();
    budget_.LastAlive(watch_.last_progress());
  } else if (absl::IsDataLoss(failure) || absl::IsInternal(failure)) {
    wait = budget_.Fruitless(failure);
  } else {
    wait = budget_.NoAnswer(began, failure);
  }
  if (!wait.ok()) return wait.status();
  if (control_.stop().WaitFor(*wait)) return control_.stop().cause();
  if (control_.WaitUntilConnected(budget_.OutageLeft())) return absl::OkStatus();
  return control_.stop().stopped() ? control_.stop().cause() : budget_.Unreachable(failure);
}

}  // namespace weightstream
