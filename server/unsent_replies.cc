#include "server/unsent_replies.h"

#include <grpcpp/server.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/open_calls.h"
#include "server/peer.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// What a reply may take, whatever its size, before its peer counts as one that does not take it: those that do, take it
// in microseconds.
constexpr absl::Duration kOverdue = absl::Seconds(1);
// And how much more for its bytes, at most ten seconds: a slow link is no bad will.
constexpr double kOverdueBytesPerSecond = 1 << 20;
constexpr absl::Duration kMostForBytes = absl::Seconds(10);

}  // namespace

class UnsentReplies::Entry {
 public:
  Entry(UnsentReplies& replies, uint64_t token) : replies_(replies), token_(token) {}
  ~Entry() { replies_.Remove(token_); }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

 private:
  UnsentReplies& replies_;
  const uint64_t token_;
};

// gRPC calls this on the thread that served a call, before its handler and after its reply is sent or lost: the only
// place where a synchronous server hears of that. One for the process, as gRPC wants it.
class UnsentReplies::SentCallback final : public grpc::Server::GlobalCallbacks {
 public:
  void PreSynchronousRequest(grpc::ServerContext*) override {}
  void PostSynchronousRequest(grpc::ServerContext*) override { OfThisThread().reset(); }

  // That of the call which this thread serves, once its handler is done.
  static std::unique_ptr<Entry>& OfThisThread() {
    static thread_local std::unique_ptr<Entry> entry;
    return entry;
  }
};

// Before main: gRPC takes one before the process's first server is made, of whatever service, and none later.
const bool UnsentReplies::kHearsOfSent = [] {
  grpc::Server::SetGlobalCallbacks(new SentCallback);
  return true;
}();

UnsentReplies::Room::~Room() {
  absl::MutexLock lock(&replies_.mutex_);
  replies_.bytes_ -= bytes_;
}

absl::Status UnsentReplies::Admit(const grpc::ServerContext& context) const {
  const absl::Duration now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  // No peer has more than all.
  if (unsent_.size() < static_cast<size_t>(bounds_.most_overdue_per_peer)) return absl::OkStatus();
  const std::string peer = PeerOf(context.peer());
  int all = 0;
  int overdue = 0;
  for (const auto& [token, reply] : unsent_) {
    if (reply.peer != peer) continue;
    ++all;
    if (IsOverdue(reply, now)) ++overdue;
  }
  if (all < bounds_.most_per_peer && overdue < bounds_.most_overdue_per_peer) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      peer, " has ", all, " calls whose replies it does not take, ", overdue,
      " of them for a second or longer; read them, or cancel the calls, before you make more (docs/limits.md)"));
}

absl::StatusOr<std::unique_ptr<UnsentReplies::Room>> UnsentReplies::Reserve(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  if (bytes_ > 0 && bytes_ + bytes > bounds_.bytes) {
    return absl::UnavailableError(absl::StrCat("the reply has some ", bytes,
                                               " bytes, and others that are not sent yet ", bytes_,
                                               "; this server keeps ", bounds_.bytes, " at a time: try again later"));
  }
  bytes_ += bytes;
  return std::unique_ptr<Room>(new Room(*this, bytes));
}

void UnsentReplies::Sending(grpc::ServerContext* context, absl::string_view method, uint64_t bytes) {
  Reply reply;
  reply.context = context;
  reply.method = std::string(method);
  reply.peer = PeerOf(context->peer());
  reply.bytes = bytes;
  reply.began = MonotonicNow();
  uint64_t token = 0;
  {
    absl::MutexLock lock(&mutex_);
    token = next_token_++;
    unsent_.emplace(token, std::move(reply));
    bytes_ += bytes;
  }
  SentCallback::OfThisThread() = std::make_unique<Entry>(*this, token);
}

void UnsentReplies::Remove(uint64_t token) {
  absl::MutexLock lock(&mutex_);
  const auto reply = unsent_.find(token);
  bytes_ -= reply->second.bytes;
  unsent_.erase(reply);
}

bool UnsentReplies::IsOverdue(const Reply& reply, absl::Duration now) const {
  return now - reply.began >=
         kOverdue + std::min(kMostForBytes, absl::Seconds(static_cast<double>(reply.bytes) / kOverdueBytesPerSecond));
}

void UnsentReplies::Cut(Reply& reply, absl::string_view why) {
  reply.cut = true;
  CutCall(reply.context, absl::DeadlineExceededError(absl::StrCat(reply.method, ": the reply was not taken ", why)));
}

void UnsentReplies::Review() {
  const absl::Duration now = MonotonicNow();
  absl::MutexLock lock(&mutex_);
  std::map<std::string, int> overdue;
  for (auto& [token, reply] : unsent_) {
    if (reply.cut || !IsOverdue(reply, now)) continue;
    const absl::Duration limit =
        bounds_.patience + absl::Seconds(static_cast<double>(reply.bytes) /
                                         static_cast<double>(std::max<uint64_t>(bounds_.least_bytes_per_second, 1)));
    if (now - reply.began >= limit) {
      Cut(reply, absl::StrCat("for ", absl::FormatDuration(limit)));
    } else if (++overdue[reply.peer] > bounds_.most_overdue_per_peer) {
      // The older ones stay, and keep their peer out for as long as they may.
      Cut(reply, absl::StrCat("at once, nor were ", bounds_.most_overdue_per_peer, " others"));
    }
  }
}

}  // namespace weightstream
