#include "server/read_ahead.h"

#include <grpc/grpc.h>
#include <grpc/support/time.h>
#include <grpcpp/impl/call.h>
#include <grpcpp/impl/call_op_set.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/method_handler.h>

#include <utility>

namespace weightstream {
namespace {

// One read of a call, asked for and awaited in two steps: what grpc::ServerReader::Read does in one. Anything that is
// asked for must be awaited before the call's queue goes; the destructor sees to it, and must not run before the call
// has ended if the peer may send nothing.
class PostedRead {
 public:
  explicit PostedRead(grpc::internal::Call& call) : call_(call) {}
  ~PostedRead() {
    if (posted_) Await();
  }
  PostedRead(const PostedRead&) = delete;
  PostedRead& operator=(const PostedRead&) = delete;

  bool posted() const { return posted_; }

  void Post() {
    posted_ = true;
    read_.RecvMessage(&message_);
    call_.PerformOps(&read_);
  }

  // False at the stream's end, whichever it is.
  bool Await() {
    posted_ = false;
    // CompletionQueue::Pluck, which is not for everybody.
    while (true) {
      void* tag = read_.core_cq_tag();
      const grpc_event event =
          grpc_completion_queue_pluck(call_.cq()->cq(), tag, gpr_inf_future(GPR_CLOCK_REALTIME), nullptr);
      bool ok = event.success != 0;
      if (read_.FinalizeResult(&tag, &ok)) return ok && read_.got_message;
    }
  }

  // The message that was awaited.
  grpc::ByteBuffer& message() { return message_; }

 private:
  grpc::internal::Call& call_;
  grpc::internal::CallOpSet<grpc::internal::CallOpRecvMessage<grpc::ByteBuffer>> read_;
  grpc::ByteBuffer message_;
  bool posted_ = false;
};

class ReadAheadReader final : public grpc::ServerReaderInterface<grpc::ByteBuffer> {
 public:
  ReadAheadReader(PostedRead& next, grpc::ServerReader<grpc::ByteBuffer>& reader) : next_(next), reader_(reader) {}

  void SendInitialMetadata() override { reader_.SendInitialMetadata(); }
  bool NextMessageSize(uint32_t* size) override { return reader_.NextMessageSize(size); }

  bool Read(grpc::ByteBuffer* message) override {
    if (!next_.posted()) next_.Post();
    // There is nothing more to read, and gRPC's reader finds that out as well; it also tells the context which end of
    // the stream it is: the peer's, or the connection's.
    if (!next_.Await()) return reader_.Read(message);
    message->Swap(&next_.message());
    next_.Post();
    return true;
  }

 private:
  PostedRead& next_;
  grpc::ServerReader<grpc::ByteBuffer>& reader_;
};

class ReadAheadHandler final : public grpc::internal::MethodHandler {
 public:
  explicit ReadAheadHandler(ServeMessages serve) : serve_(std::move(serve)) {}

  void RunHandler(const HandlerParameter& parameter) override {
    // Outlives the call, whose status, sent by gRPC's own handler, is what ends a read that nobody has awaited.
    PostedRead next(*parameter.call);
    grpc::internal::ClientStreamingHandler<ReadAheadHandler, grpc::ByteBuffer, v1::PushResponse> once(
        [&next](ReadAheadHandler* self, grpc::ServerContext* context, grpc::ServerReader<grpc::ByteBuffer>* reader,
                v1::PushResponse* response) {
          ReadAheadReader ahead(next, *reader);
          return self->serve_(context, &ahead, response);
        },
        this);
    once.RunHandler(parameter);
  }

 private:
  const ServeMessages serve_;
};

}  // namespace

std::unique_ptr<grpc::internal::MethodHandler> NewReadAheadHandler(ServeMessages serve) {
  return std::make_unique<ReadAheadHandler>(std::move(serve));
}

}  // namespace weightstream
