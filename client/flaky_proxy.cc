#include "client/flaky_proxy.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// A test cannot go on without its sockets.
void Require(bool condition) {
  if (!condition) std::abort();
}

bool SendAll(int to, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(to, data, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

// So that the peer sees a reset, as it does when a machine goes down.
void CloseWithReset(int fd) {
  const linger reset = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close(fd);
}

}  // namespace

struct FlakyProxy::Connection {
  uint64_t towards_server = 0;
};

FlakyProxy::FlakyProxy(int target_port) : target_port_(target_port) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  Require(listener_ >= 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof address;
  Require(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
  Require(listen(listener_, 64) == 0);
  Require(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  int wake[2];
  Require(pipe(wake) == 0);
  wake_read_ = wake[0];
  wake_write_ = wake[1];
  acceptor_ = std::thread([this] { Accept(); });
}

FlakyProxy::~FlakyProxy() {
  stopping_.store(true);
  // Stays readable, and so wakes every thread.
  Require(write(wake_write_, "x", 1) == 1);
  acceptor_.join();
  std::vector<std::thread> forwarders;
  {
    absl::MutexLock lock(&mutex_);
    forwarders.swap(forwarders_);
  }
  for (std::thread& forwarder : forwarders) forwarder.join();
  close(listener_);
  close(wake_read_);
  close(wake_write_);
}

void FlakyProxy::CutAfter(uint64_t bytes, int times) {
  cut_after_.store(bytes);
  cuts_left_.store(times);
}

void FlakyProxy::FreezeAfter(uint64_t bytes) { freeze_after_.store(bytes); }

bool FlakyProxy::frozen() const { return towards_server_.load() >= freeze_after_.load(); }

void FlakyProxy::Accept() {
  for (;;) {
    pollfd fds[] = {{listener_, POLLIN, 0}, {wake_read_, POLLIN, 0}};
    poll(fds, 2, -1);
    if (stopping_.load()) return;
    if ((fds[0].revents & POLLIN) == 0) continue;
    const int client = accept(listener_, nullptr, nullptr);
    if (client < 0) continue;
    absl::MutexLock lock(&mutex_);
    forwarders_.emplace_back([this, client] { Forward(client); });
  }
}

void FlakyProxy::Forward(int client) {
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(target_port_);
  Connection connection;
  bool open = connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  while (open && !stopping_.load()) {
    // Frozen: the sockets stay open and nobody reads them.
    const bool frozen_now = frozen();
    pollfd fds[] = {{wake_read_, POLLIN, 0}, {client, POLLIN, 0}, {server, POLLIN, 0}};
    poll(fds, frozen_now ? 1 : 3, -1);
    if (stopping_.load() || frozen_now) continue;
    if (fds[1].revents != 0) open = Pump(client, server, connection, /*towards_server=*/true);
    if (open && fds[2].revents != 0) open = Pump(server, client, connection, /*towards_server=*/false);
  }
  CloseWithReset(client);
  CloseWithReset(server);
}

bool FlakyProxy::Pump(int from, int to, Connection& connection, bool towards_server) {
  char buffer[16 << 10];
  const ssize_t size = recv(from, buffer, sizeof buffer, 0);
  if (size <= 0) return false;
  if (towards_server) {
    connection.towards_server += static_cast<uint64_t>(size);
    towards_server_.fetch_add(static_cast<uint64_t>(size));
    if (connection.towards_server > cut_after_.load() && cuts_left_.load() > 0) {
      cuts_left_.fetch_sub(1);
      cuts_.fetch_add(1);
      return false;
    }
  }
  return SendAll(to, buffer, static_cast<size_t>(size));
}

}  // namespace weightstream
