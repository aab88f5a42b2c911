// The ends of calls that their peers do not take.
//
// gRPC sends a call's last message on the thread that served the call, which waits until HTTP/2's windows let it go: a
// client that grants no window keeps the thread, after the handler is done with it and all that bounds open calls is
// over. A few hundred calls of such a client, each without a bad byte, would take every thread of the server.
#ifndef WEIGHTSTREAM_SERVER_UNSENT_REPLIES_H_
#define WEIGHTSTREAM_SERVER_UNSENT_REPLIES_H_

#include <grpcpp/server_context.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weightstream {

// Outlives its calls. Thread-safe.
class UnsentReplies {
 public:
  struct Bounds {
    // Of one peer, at once: with so many it gets no further call served.
    int most_per_peer = 0;
    // Of those, how many may take longer than a second; the others are cut then.
    int most_overdue_per_peer = 0;
    // How long a peer may take for one, and how much longer for each byte of it.
    absl::Duration patience;
    uint64_t least_bytes_per_second = 0;
    // Of all large ones together, being made or unsent.
    uint64_t bytes = 0;
  };

  explicit UnsentReplies(const Bounds& bounds) : bounds_(bounds) {}

  // Whether one more call of this caller is to be served: UNAVAILABLE if it does not take its replies.
  absl::Status Admit(const grpc::ServerContext& context) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Holds memory for a reply that is being made.
  class Room {
   public:
    ~Room();
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;

   private:
    friend class UnsentReplies;
    Room(UnsentReplies& replies, uint64_t bytes) : replies_(replies), bytes_(bytes) {}

    UnsentReplies& replies_;
    const uint64_t bytes_;
  };
  // For a reply of so many bytes. UNAVAILABLE where others that are unsent leave none; the first always has room.
  absl::StatusOr<std::unique_ptr<Room>> Reserve(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // To be called on a call's thread as the last that its handler does: gRPC sends the reply, of so many bytes, as soon
  // as the handler returns, and then forgets it here.
  void Sending(grpc::ServerContext* context, absl::string_view method, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // To be called about once a second: cuts the calls whose peer takes too long, DEADLINE_EXCEEDED.
  void Review() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class SentCallback;
  static const bool kHearsOfSent;

  struct Reply {
    grpc::ServerContext* context = nullptr;
    std::string method;
    std::string peer;
    uint64_t bytes = 0;
    absl::Duration began;
    bool cut = false;
  };
  // One that is being sent, for as long as this lives.
  class Entry;

  bool IsOverdue(const Reply& reply, absl::Duration now) const;
  void Cut(Reply& reply, absl::string_view why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(uint64_t token) ABSL_LOCKS_EXCLUDED(mutex_);

  const Bounds bounds_;
  mutable absl::Mutex mutex_;
  // The oldest first.
  std::map<uint64_t, Reply> unsent_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_token_ ABSL_GUARDED_BY(mutex_) = 1;
  // Of the replies that are being made or unsent.
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_UNSENT_REPLIES_H_
