// The streaming calls that are open: how many there may be, in all and of one peer, how long one may keep the server
// waiting for its peer, and how slow one may be where others want its place.
//
// A synchronous server spends a thread on each call. Without a bound on streams, a few hundred that say nothing would
// take every thread, and commits, aborts and health checks with them, and one peer those of all others; those that say
// a byte now and then would keep theirs for ever; and a reader that stopped reading would keep a version's memory,
// because gRPC answers pings in its name.
#ifndef WEIGHTSTREAM_SERVER_OPEN_CALLS_H_
#define WEIGHTSTREAM_SERVER_OPEN_CALLS_H_

#include <grpcpp/server_context.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "server/peer_rates.h"
#include "server/recent_rate.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {

// Ends a call from outside its handler, whose reads and writes then fail. The peer gets this status; TryCancel would
// tell it no more than CANCELLED. The call must not have ended.
void CutCall(grpc::ServerContext* context, const absl::Status& reason);

// Thread-safe.
class OpenCalls {
 public:
  struct Bounds {
    // Calls at once: of all peers, and of each.
    int most = 0;
    int most_per_peer = 0;
    // One that keeps the server waiting for longer is cut.
    absl::Duration patience;
    // Payload that each peer may move a second; 0 is as fast as it goes.
    uint64_t peer_bytes_per_second = 0;
    // Transfers of a peer give way to a call that finds no place where all of them together move less than this, for
    // each four of them, over `patience`; 0 is never. Several share a line, and chunks are large: one alone may show
    // nothing for long.
    uint64_t least_bytes_per_second = 0;
  };

  enum class Kind {
    // Is there to move bytes, and to be over then.
    kTransfer,
    // Says something now and then for as long as its peer likes: a watch, a lease. These have half of all places, and
    // one peer five sixths of those.
    kLasting,
  };

  explicit OpenCalls(const Bounds& bounds) : bounds_(bounds), rates_(bounds.peer_bytes_per_second) {}

  // One call, from its entry to its handler's end.
  class Call {
   public:
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    // From now on the peer is waited for: a message of its, or room for one of ours.
    void AwaitPeer();
    // No more.
    void PeerAnswered();
    // Sends a message, for as long as the peer may take; false once the call is over.
    template <typename Writer, typename Message>
    bool Write(Writer& writer, const Message& message) {
      AwaitPeer();
      const bool sent = writer.Write(message);
      PeerAnswered();
      return sent;
    }

    // Notes that so many bytes are done with: came, went, or were summed for the peer.
    void Advanced(uint64_t bytes) { advanced_.fetch_add(bytes, std::memory_order_relaxed); }
    // The same of a message of so much payload, and waits for as long as the peer's rate asks for, or until the call is
    // over. No reading meanwhile: so the peer is held back. True if it was.
    bool Moved(uint64_t payload_bytes);

    // Why the call is over: what it was cut with, or CANCELLED because the peer went away.
    absl::Status EndStatus() const;

   private:
    friend class OpenCalls;
    Call(OpenCalls& calls, uint64_t token, const grpc::ServerContext* context,
         std::shared_ptr<PeerRates::Bucket> bucket)
        : calls_(calls), token_(token), context_(context), bucket_(std::move(bucket)) {}

    OpenCalls& calls_;
    const uint64_t token_;
    const grpc::ServerContext* const context_;
    // The peer's; null where its rate has no limit.
    const std::shared_ptr<PeerRates::Bucket> bucket_;
    std::atomic<uint64_t> advanced_{0};
    // It is, or was since this was last looked at, held back here: then it is not its peer that is slow.
    std::atomic<bool> held_back_{false};
  };

  // Where all places are taken, of all or of this peer's, cuts the slowest transfer of a peer that is too slow
  // (UNAVAILABLE: it may try again) and waits a short time for it to leave. RESOURCE_EXHAUSTED if there is none, or no
  // place for a call of this kind. `context` must live until the Call is gone, and the Call until the handler returns.
  absl::StatusOr<std::unique_ptr<Call>> Enter(grpc::ServerContext* context, absl::string_view method,
                                              Kind kind = Kind::kTransfer) ABSL_LOCKS_EXCLUDED(mutex_);

  // To be called about once a second: looks how fast each call is, and cuts those whose peer was waited for too long,
  // DEADLINE_EXCEEDED.
  void Review() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct State {
    explicit State(RecentRate rate) : rate(rate) {}

    grpc::ServerContext* context = nullptr;
    std::string method;
    std::string peer;
    Kind kind = Kind::kTransfer;
    // As MonotonicNow() tells.
    absl::Duration deadline = absl::InfiniteDuration();
    absl::Status cut;
    Call* call = nullptr;
    RecentRate rate;
  };
  struct Peer {
    // All calls, and those of each kind.
    int calls = 0;
    int transfers = 0;
    int lasting = 0;
    // That of all transfers: one that is made anew again and again is as slow as one that stays. None while there are
    // none, and then what ended ones advanced counts no more.
    absl::optional<RecentRate> rate;
    uint64_t advanced_before = 0;
  };

  // RESOURCE_EXHAUSTED if there is no place for one more call of this peer.
  absl::Status CheckPlace(const std::string& peer) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The same of one more of this kind.
  absl::Status CheckKind(const std::string& peer, Kind kind) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // As CheckPlace, after slow ones have been cut and have left if need be.
  absl::Status AwaitPlace(const std::string& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool PeerIsFull(const std::string& peer) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The rate of all transfers of a peer that is too slow; none if it is not.
  absl::optional<double> SlowRate(const Peer& peer) const;
  // Cuts the slowest transfer of a slow peer: of this one if it has all that it may have. False if there is none.
  bool CutSlowest(const std::string& for_peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReviewRates(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Bounds bounds_;
  PeerRates rates_;
  mutable absl::Mutex mutex_;
  // Signalled when a call has left.
  mutable MonotonicCondVar left_;
  uint64_t next_token_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, State> open_ ABSL_GUARDED_BY(mutex_);
  // Those that have any.
  std::map<std::string, Peer> peers_ ABSL_GUARDED_BY(mutex_);
  int lasting_ ABSL_GUARDED_BY(mutex_) = 0;
  // Calls that wait for one that was cut to leave.
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_OPEN_CALLS_H_
