#include "server/connection_gate.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/log.h"
#include "server/peer.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", what a client's first bytes are. A TLS record with a ClientHello has more.
constexpr size_t kPrefaceBytes = 24;

// Taken in between two looks at those that wait.
constexpr int kAcceptsAtOnce = 64;
// Without a descriptor left accept fails at once, again and again.
constexpr int kNoDescriptorPauseMillis = 100;

// False with errno set where the kernel has no room for one more.
bool Watch(const FileDescriptor& poll, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  return ::epoll_ctl(poll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

absl::Status CannotStart(absl::string_view call, int error) {
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot take connections: ", call, ": ", std::error_code(error, std::generic_category()).message(),
                   "; raise the limits on open files (ulimit -n) and processes (ulimit -u)"));
}

bool IsOutOfDescriptors(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }

}  // namespace

ConnectionGate::ConnectionGate(std::unique_ptr<ListeningSockets> sockets,
                               std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor,
                               const Options& options, Metrics& metrics)
    : options_(options),
      metrics_(metrics),
      sockets_(std::move(sockets)),
      acceptor_(std::move(acceptor)),
      open_(options.bounds) {}

absl::StatusOr<std::unique_ptr<ConnectionGate>> ConnectionGate::Open(
    std::unique_ptr<ListeningSockets> sockets, std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor,
    const Options& options, Metrics& metrics) {
  std::unique_ptr<ConnectionGate> gate(new ConnectionGate(std::move(sockets), std::move(acceptor), options, metrics));
  if (absl::Status started = gate->Start(); !started.ok()) return started;
  return gate;
}

absl::Status ConnectionGate::Start() {
  poll_ = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
  if (!poll_.valid()) return CannotStart("epoll_create1", errno);
  stop_ = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_.valid()) return CannotStart("eventfd", errno);
  if (!Watch(poll_, stop_.get(), EPOLLIN)) return CannotStart("epoll_ctl", errno);
  for (const FileDescriptor& socket : sockets_->sockets()) {
    if (!Watch(poll_, socket.get(), EPOLLIN)) return CannotStart("epoll_ctl", errno);
  }
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& error) {
    return CannotStart("a thread", error.code().value());
  }
  return absl::OkStatus();
}

ConnectionGate::~ConnectionGate() { Close(); }

void ConnectionGate::Close() {
  if (!thread_.joinable()) return;
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
  waiting_.clear();
  sockets_.reset();
}

// ---- The thread -----------------------------------------------------------------------------------------------------

void ConnectionGate::Run() {
  pthread_setname_np(pthread_self(), "connections");
  std::array<epoll_event, 64> events{};
  for (;;) {
    const int count = ::epoll_wait(poll_.get(), events.data(), static_cast<int>(events.size()), NextTimeout());
    // Those that wait come first: who has spoken must not be closed to make room. Nor may a number be given out again
    // while the kernel's word of the connection that had it is still unheard.
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd == stop_.get()) return;
      if (by_fd_.count(fd) > 0) Speaks(fd, (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    }
    for (int i = 0; i < count; ++i) {
      if (IsListening(events[i].data.fd)) Accept(events[i].data.fd);
    }
    DropOverdue();
  }
}

int ConnectionGate::NextTimeout() const {
  if (waiting_.empty()) return -1;
  const int64_t wait = absl::ToInt64Milliseconds(waiting_.front().deadline - MonotonicNow());
  // Not a moment too early.
  return static_cast<int>(std::clamp<int64_t>(wait, 0, std::numeric_limits<int>::max() - 1) + 1);
}

bool ConnectionGate::IsListening(int fd) const {
  return std::any_of(sockets_->sockets().begin(), sockets_->sockets().end(),
                     [fd](const FileDescriptor& socket) { return socket.get() == fd; });
}

void ConnectionGate::Accept(int listening) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    FileDescriptor socket(
        ::accept4(listening, reinterpret_cast<sockaddr*>(&address), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      Welcome(std::move(socket), PeerOf(address));
      continue;
    }
    if (IsOutOfDescriptors(errno)) {
      AwaitDescriptor();
      return;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    // Of one connection, which went away meanwhile: the next one may do.
  }
}

void ConnectionGate::AwaitDescriptor() {
  metrics_.ConnectionRefused(ConnectionRefusal::kNoDescriptor);
  Tell("", "no descriptor is left; raise the limit on open files (ulimit -n), or lower --max-connections");
  // Those that only wait hold some.
  if (!waiting_.empty()) DropSilent(waiting_.begin());
  pollfd stop{stop_.get(), POLLIN, 0};
  ::poll(&stop, 1, kNoDescriptorPauseMillis);
}

void ConnectionGate::Welcome(FileDescriptor socket, std::string peer) {
  MakeRoom(peer);
  const int fd = socket.get();
  ++waiting_of_peer_[peer];
  waiting_.push_back({std::move(socket), std::move(peer), MonotonicNow() + options_.patience});
  by_fd_[fd] = std::prev(waiting_.end());
  // Edge-triggered: once for what is there already, and then for each more.
  if (Watch(poll_, fd, EPOLLIN | EPOLLRDHUP | EPOLLET)) return;
  metrics_.ConnectionRefused(ConnectionRefusal::kNoDescriptor);
  Tell(std::prev(waiting_.end())->peer, "the kernel watches no more descriptors; raise fs.epoll.max_user_watches");
  Forget(std::prev(waiting_.end()));
}

void ConnectionGate::MakeRoom(const std::string& peer) {
  const auto of_peer = waiting_of_peer_.find(peer);
  if (of_peer != waiting_of_peer_.end() && of_peer->second >= std::max<size_t>(1, options_.most_waiting / 2)) {
    DropSilent(std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& one) { return one.peer == peer; }));
  } else if (waiting_.size() >= std::max<size_t>(1, options_.most_waiting)) {
    DropSilent(waiting_.begin());
  }
}

void ConnectionGate::Speaks(int fd, bool gone) {
  const WaitingList::iterator waiting = by_fd_.at(fd);
  std::array<char, kPrefaceBytes> first{};
  const ssize_t bytes = ::recv(fd, first.data(), first.size(), MSG_PEEK | MSG_DONTWAIT);
  if (bytes < static_cast<ssize_t>(first.size())) {
    // Whoever has gone will say no more.
    if (gone) Forget(waiting);
    return;
  }
  FileDescriptor socket = std::move(waiting->socket);
  const std::string peer = waiting->peer;
  ::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  by_fd_.erase(fd);
  Forget(waiting);
  PassOn(std::move(socket), peer);
}

void ConnectionGate::PassOn(FileDescriptor socket, const std::string& peer) {
  const OpenConnections::Verdict verdict = open_.Judge(peer);
  if (verdict != OpenConnections::Verdict::kWelcome) {
    TurnAway(peer, verdict);
    return;
  }
  open_.Add(socket.get(), peer);
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.fd = socket.Release();
  acceptor_->HandleNewConnection(&parameters);
}

void ConnectionGate::TurnAway(const std::string& peer, OpenConnections::Verdict verdict) {
  const bool of_peer = verdict == OpenConnections::Verdict::kTooManyOfPeer;
  metrics_.ConnectionRefused(of_peer ? ConnectionRefusal::kTooManyOfPeer : ConnectionRefusal::kTooMany);
  Tell(peer, of_peer ? absl::StrCat("this server takes ", options_.bounds.most_per_peer,
                                    " connections of one peer, which has as many; close some, or raise "
                                    "--max-peer-connections")
                     : absl::StrCat("this server takes ", options_.bounds.most,
                                    " connections and has as many; close some, or raise --max-connections"));
}

void ConnectionGate::Tell(const std::string& peer, absl::string_view why) {
  // Who is turned away comes back.
  const uint64_t refused = brake_.Count(peer);
  if (refused == 0) return;
  LogWarning("connection_refused", {{"peer", peer}, {"error", std::string(why)}, {"refused", refused}});
}

void ConnectionGate::DropOverdue() {
  const absl::Duration now = MonotonicNow();
  while (!waiting_.empty() && waiting_.front().deadline <= now) DropSilent(waiting_.begin());
}

void ConnectionGate::DropSilent(WaitingList::iterator waiting) {
  metrics_.ConnectionRefused(ConnectionRefusal::kSilent);
  Forget(waiting);
}

void ConnectionGate::Forget(WaitingList::iterator waiting) {
  // Closing takes it off the poll as well.
  if (waiting->socket.valid()) by_fd_.erase(waiting->socket.get());
  const auto of_peer = waiting_of_peer_.find(waiting->peer);
  if (--of_peer->second == 0) waiting_of_peer_.erase(of_peer);
  waiting_.erase(waiting);
}

}  // namespace weightstream
