#include "server/push_stream.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "proto/chunk_codec.h"
#include "server/chunk_check.h"
#include "server/landing.h"
#include "server/log.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

// Ties a stream to its update for as long as it feeds it.
class Feed {
 public:
  Feed(const CallEnvironment& environment, grpc::ServerContext* context, std::shared_ptr<Update> update)
      : update_(std::move(update)),
        token_(update_->AddStream([context](const absl::Status& reason) { CutCall(context, reason); })),
        lander_(*environment.device, environment.staging, update_, environment.limits->copy_wait,
                [context, update = update_] { return context->IsCancelled() || !update->ReceivingStatus().ok(); }) {}
  ~Feed() { update_->RemoveStream(token_); }
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  Update& update() { return *update_; }
  ChunkLander& lander() { return lander_; }

 private:
  const std::shared_ptr<Update> update_;
  const uint64_t token_;
  ChunkLander lander_;
};

absl::Status CheckUpdateId(const ChunkHeader& header, absl::optional<Feed>& feed) {
  if (!feed.has_value() && header.update_id.empty()) {
    return absl::InvalidArgumentError(
        "the stream's first chunk has no update_id; set the one that BeginUpdate returned");
  }
  if (feed.has_value() && !header.update_id.empty() && header.update_id != feed->update().identity().id) {
    return absl::InvalidArgumentError(absl::StrCat("a chunk names another update than its stream's first one, ",
                                                   feed->update().identity().id,
                                                   "; push each update on streams of its own"));
  }
  return absl::OkStatus();
}

absl::Status TakeChunk(const CallEnvironment& environment, grpc::ServerContext* context, Permit& permit,
                       const ReceivedChunk& chunk, absl::optional<Feed>& feed) {
  // Before anything that it says is believed.
  if (absl::Status intact = chunk.CheckIntact(); !intact.ok()) return intact;
  if (absl::Status checked = CheckUpdateId(chunk.header(), feed); !checked.ok()) return checked;
  if (!feed.has_value()) {
    const std::string& id = chunk.header().update_id;
    const absl::StatusOr<std::shared_ptr<Model>> model = environment.registry->FindModelOf(id);
    if (!model.ok()) return model.status();
    // Before anything is said of the update, ended or not.
    if (absl::Status allowed = permit.Check((*model)->name()); !allowed.ok()) return allowed;
    absl::StatusOr<std::shared_ptr<Update>> update = (*model)->FindUpdate(id);
    if (!update.ok()) return update.status();
    feed.emplace(environment, context, *std::move(update));
  }
  if (absl::Status allowed = permit.Check(feed->update().identity().model); !allowed.ok()) return allowed;
  feed->update().Touch();
  if (absl::Status receiving = feed->update().ReceivingStatus(); !receiving.ok()) return receiving;
  absl::StatusOr<CheckedChunk> checked = CheckChunk(feed->update(), chunk.header(), chunk.data_bytes());
  if (!checked.ok()) return checked.status();
  return feed->lander().Land(*checked, chunk.pieces());
}

// `named` is what its first chunk called the update, which need not be one.
void LogEnd(const grpc::ServerContext& context, absl::optional<Feed>& feed, const std::string& named,
            const v1::PushResponse& response, const absl::Status& status) {
  const std::string model = feed.has_value() ? feed->update().identity().model : "";
  const LogTrace trace(feed.has_value() ? LogTrace::CurrentOr(feed->update().trace()) : LogTrace::Current());
  const auto log = status.ok() ? LogDebug : LogWarning;
  log("push_stream_ended", {{"peer", context.peer()},
                            {"model", model},
                            {"update", Printable(named)},
                            {"chunks", response.chunks()},
                            {"bytes", response.bytes()},
                            {"status", status.ToString()}});
}

}  // namespace

absl::Status ServePush(const CallEnvironment& environment, grpc::ServerContext* context,
                       grpc::ServerReaderInterface<grpc::ByteBuffer>* reader, v1::PushResponse* response) {
  // The model follows from the first chunk's update; until then it is enough to be allowed to push to some.
  Permit permit(environment.authorizer, *context, "Push");
  if (absl::Status allowed = permit.Check(""); !allowed.ok()) return allowed;
  absl::StatusOr<std::unique_ptr<OpenCalls::Call>> call = environment.calls->Enter(context, "Push");
  if (!call.ok()) return call.status();
  // Until its first chunk a stream belongs to no update, whose own limit on idleness holds from then on.
  (*call)->AwaitPeer();
  absl::optional<Feed> feed;
  ReceivedChunk chunk;
  grpc::ByteBuffer message;
  std::string named;
  absl::Status status;
  while (status.ok() && reader->Read(&message)) {
    if (!feed.has_value()) (*call)->PeerAnswered();
    status = chunk.Parse(message);
    if (status.ok() && named.empty()) named = chunk.header().update_id;
    if (status.ok()) status = TakeChunk(environment, context, permit, chunk, feed);
    if (!status.ok()) break;
    response->set_chunks(response->chunks() + 1);
    response->set_bytes(response->bytes() + chunk.data_bytes());
    environment.metrics->ChunkReceived(chunk.data_bytes());
    environment.poller->StreamMoved();
    if ((*call)->Moved(chunk.data_bytes())) feed->update().NoteHeldBack();
    // It may have been the server that made it wait.
    feed->update().Touch();
  }
  if (status.ok() && context->IsCancelled()) {
    // A read fails in the same way at a stream's end and at a connection's: only this tells them apart.
    status = (*call)->EndStatus();
    if (feed.has_value() && !feed->update().ReceivingStatus().ok()) status = feed->update().ReceivingStatus();
  }
  if (feed.has_value()) {
    // First the cause, then what the copies that were under way have to say.
    status.Update(feed->lander().Finish());
    response->set_missing_bytes(feed->update().ranges().missing_bytes());
  }
  LogEnd(*context, feed, named, *response, status);
  return status;
}

}  // namespace weightstream
