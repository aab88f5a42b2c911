#include "server/scrape_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// Whether it was ready before MonotonicNow() came to `deadline`. What has failed is ready too, and then says so.
bool AwaitReady(int socket, short events, absl::Duration deadline) {
  for (;;) {
    const absl::Duration left = std::max(deadline - MonotonicNow(), absl::ZeroDuration());
    pollfd polled = {socket, events, 0};
    // Rounded up: a rest of less than a millisecond is not waited for in a busy loop.
    const int ready = ::poll(&polled, 1, static_cast<int>(absl::ToInt64Milliseconds(left + absl::Microseconds(999))));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

ScrapeStream::ScrapeStream(int socket, absl::Duration request, absl::Duration answer)
    : socket_(socket), request_deadline_(MonotonicNow() + request), answer_(answer) {}

ssize_t ScrapeStream::read(char* ptr, size_t size) {
  while (begin_ == end_) {
    if (received_ >= kMostScrapeRequestBytes) return -1;
    // Also where bytes are there: they may never end.
    if (MonotonicNow() > request_deadline_ || !AwaitReady(socket_, POLLIN, request_deadline_)) return -1;
    const ssize_t received = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (received < 0 && WouldBlock()) continue;
    if (received <= 0) return received;
    begin_ = 0;
    end_ = static_cast<size_t>(received);
    received_ += end_;
  }
  const size_t taken = std::min(size, end_ - begin_);
  std::memcpy(ptr, buffer_.data() + begin_, taken);
  begin_ += taken;
  return static_cast<ssize_t>(taken);
}

ssize_t ScrapeStream::write(const char* ptr, size_t size) {
  answer_deadline_ = AnswerDeadline();
  for (;;) {
    if (MonotonicNow() > answer_deadline_ || !AwaitReady(socket_, POLLOUT, answer_deadline_)) return -1;
    const ssize_t sent = ::send(socket_, ptr, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0 || !WouldBlock()) return sent;
  }
}

bool ScrapeStream::is_readable() const { return begin_ < end_ || AwaitReady(socket_, POLLIN, request_deadline_); }

bool ScrapeStream::is_writable() const { return AwaitReady(socket_, POLLOUT, AnswerDeadline()); }

absl::Duration ScrapeStream::AnswerDeadline() const {
  return answer_deadline_ == absl::InfiniteDuration() ? MonotonicNow() + answer_ : answer_deadline_;
}

void ScrapeStream::get_remote_ip_and_port(std::string& ip, int& port) const {
  ip.clear();
  port = 0;
}

void ScrapeStream::get_local_ip_and_port(std::string& ip, int& port) const { get_remote_ip_and_port(ip, port); }

}  // namespace weightstream
