#include "client/push_stream.h"

#include <grpcpp/client_context.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "client/raw_stream.h"
#include "kernels/checksum.h"
#include "proto/chunk_codec.h"
#include "proto/status.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

// Fills in what does not change from chunk to chunk of one tensor only when the tensor changes.
class HeaderWriter {
 public:
  HeaderWriter(const std::vector<TensorSpec>& tensors, const std::string& update_id) : tensors_(tensors) {
    header_.update_id = update_id;
  }

  const ChunkHeader& Next(const PlannedChunk& chunk, absl::string_view data) {
    if (header_.name.empty() || chunk.tensor != tensor_) SetTensor(chunk.tensor);
    if (!first_) header_.update_id.clear();
    first_ = false;
    header_.offset = chunk.range.begin;
    header_.crc32c = ExtendCrc32c(0, data);
    return header_;
  }

 private:
  void SetTensor(uint32_t tensor) {
    const TensorSpec& spec = tensors_[tensor];
    tensor_ = tensor;
    header_.name = spec.name;
    header_.shape.assign(spec.shape.begin(), spec.shape.end());
    header_.dtype = std::string(DTypeName(spec.dtype));
  }

  const std::vector<TensorSpec>& tensors_;
  ChunkHeader header_;
  uint32_t tensor_ = 0;
  bool first_ = true;
};

// False once the stream takes no more.
bool SendChunk(grpc::ClientWriter<grpc::ByteBuffer>& stream, const PlannedChunk& chunk, HeaderWriter& header,
               const PushStreamTask& task) {
  const absl::string_view data = task.context.source.data(chunk.tensor).substr(chunk.range.begin, chunk.range.size());
  const grpc::ByteBuffer message =
      EncodeChunk(header.Next(chunk, data), data, BorrowCounter::Borrow(task.context.borrows));
  if (!stream.Write(message)) return false;
  task.watch.Tick();
  task.counters.round_bytes.fetch_add(data.size(), std::memory_order_relaxed);
  task.counters.sent_bytes.fetch_add(data.size(), std::memory_order_relaxed);
  return true;
}

}  // namespace

absl::StatusOr<absl::optional<uint64_t>> RunPushStream(grpc::Channel& channel, const PushStreamTask& task) {
  // Before the stream is opened: the first chunk names the update, and a stream without one asks about nothing.
  absl::optional<PlannedChunk> chunk = task.plan.Next();
  if (!chunk.has_value()) return absl::nullopt;
  grpc::ClientContext context;
  const StopSignal::Listener cancel_on_stop(task.stop, [&context](const absl::Status&) { context.TryCancel(); });
  v1::PushResponse response;
  const std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>> stream = OpenRawPush(channel, context, response);
  task.watch.Tick();

  HeaderWriter header(task.context.source.tensors(), task.update_id);
  bool open = true;
  while (open && chunk.has_value()) {
    open = SendChunk(*stream, *chunk, header, task);
    if (open) chunk = task.plan.Next();
  }
  if (open) stream->WritesDone();
  const absl::Status status = FromGrpcStatus(stream->Finish());
  task.watch.Tick();
  if (!status.ok()) return status;
  if (!open) return absl::UnavailableError("the server ended the stream before everything was sent");
  return absl::make_optional<uint64_t>(response.missing_bytes());
}

}  // namespace weightstream
