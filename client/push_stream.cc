#include "client/push_stream.h"

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "client/raw_stream.h"
#include "kernels/checksum.h"
#include "proto/chunk_codec.h"
#include "proto/status.h"
#include "proto/trace_context.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

// Smaller chunks may wait in gRPC for those that follow, or for the stream's end, until its write buffer is full, which
// is of this size unless a channel says otherwise: a send for each, and the peer's wake-up, would cost more than the
// bytes.
constexpr uint64_t kSentTogetherBytes = 64 << 10;

uint64_t DataBytes(const PushContext& context, const PlannedChunk& chunk) {
  uint64_t bytes = chunk.range.size();
  for (const uint32_t tensor : chunk.followed_by) bytes += context.index.bytes(tensor);
  return bytes;
}

// Makes the messages of one stream. What does not change from chunk to chunk of one tensor is filled in only when the
// tensor changes.
class ChunkWriter {
 public:
  ChunkWriter(const PushContext& context, const std::string& update_id) : context_(context) {
    header_.update_id = update_id;
    header_.has_header_crc32c = true;
  }

  grpc::ByteBuffer Next(const PlannedChunk& chunk) {
    if (header_.name.empty() || chunk.tensor != tensor_) SetTensor(chunk.tensor);
    if (!first_) header_.update_id.clear();
    first_ = false;
    header_.offset = chunk.range.begin;
    return chunk.followed_by.empty() ? Borrowed(chunk) : Packed(chunk);
  }

 private:
  void SetTensor(uint32_t tensor) {
    const TensorSpec& spec = context_.source.tensors()[tensor];
    tensor_ = tensor;
    header_.name = spec.name;
    header_.shape.assign(spec.shape.begin(), spec.shape.end());
    header_.dtype = std::string(DTypeName(spec.dtype));
  }

  grpc::ByteBuffer Borrowed(const PlannedChunk& chunk) {
    header_.followed_by.clear();
    const absl::string_view data = context_.source.data(chunk.tensor).substr(chunk.range.begin, chunk.range.size());
    header_.crc32c = ExtendCrc32c(0, data);
    return EncodeChunk(header_, data, BorrowCounter::Borrow(context_.borrows));
  }

  // Copied: gRPC's cost of a slice is that of copying some kilobytes.
  grpc::ByteBuffer Packed(const PlannedChunk& chunk) {
    header_.followed_by.resize(chunk.followed_by.size());
    for (size_t i = 0; i < chunk.followed_by.size(); ++i) {
      header_.followed_by[i] = context_.source.tensors()[chunk.followed_by[i]].name;
    }
    const grpc::Slice slice(DataBytes(context_, chunk));
    // gRPC has no mutable access, but nobody else holds the slice yet.
    char* out = reinterpret_cast<char*>(const_cast<uint8_t*>(slice.begin()));
    uint32_t crc = 0;
    const auto append = [&](absl::string_view data) {
      crc = CopyAndExtendCrc32c(crc, out, data, Stores::kCached);
      out += data.size();
    };
    append(context_.source.data(chunk.tensor));
    for (const uint32_t tensor : chunk.followed_by) append(context_.source.data(tensor));
    header_.crc32c = crc;
    return EncodeChunk(header_, slice);
  }

  const PushContext& context_;
  ChunkHeader header_;
  uint32_t tensor_ = 0;
  bool first_ = true;
};

// False once the stream takes no more.
bool SendChunk(grpc::ClientWriter<grpc::ByteBuffer>& stream, const PlannedChunk& chunk, ChunkWriter& writer,
               const PushStreamTask& task) {
  const uint64_t bytes = DataBytes(task.context, chunk);
  grpc::WriteOptions options;
  if (bytes < kSentTogetherBytes) options.set_buffer_hint();
  if (!stream.Write(writer.Next(chunk), options)) return false;
  task.watch.Tick();
  task.counters.round_bytes.fetch_add(bytes, std::memory_order_relaxed);
  task.counters.sent_bytes.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

}  // namespace

absl::StatusOr<absl::optional<uint64_t>> RunPushStream(grpc::Channel& channel, const PushStreamTask& task) {
  // Before the stream is opened: the first chunk names the update, and a stream without one asks about nothing.
  absl::optional<PlannedChunk> chunk = task.plan.Next();
  if (!chunk.has_value()) return absl::nullopt;
  grpc::ClientContext context;
  if (!task.traceparent.empty()) context.AddMetadata(kTraceparent, task.traceparent);
  const StopSignal::Listener cancel_on_stop(task.stop, [&context](const absl::Status&) { context.TryCancel(); });
  v1::PushResponse response;
  const std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>> stream = OpenRawPush(channel, context, response);
  task.watch.Tick();

  ChunkWriter writer(task.context, task.update_id);
  bool open = true;
  while (open && chunk.has_value()) {
    open = SendChunk(*stream, *chunk, writer, task);
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
