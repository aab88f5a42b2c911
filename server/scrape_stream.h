// One connection of the metrics endpoint, as httplib reads and writes it.
//
// httplib's own stream bounds each read and each write, so that who sends a byte a second is served for ever. This one
// bounds the whole.
#ifndef WEIGHTSTREAM_SERVER_SCRAPE_STREAM_H_
#define WEIGHTSTREAM_SERVER_SCRAPE_STREAM_H_

#include <httplib.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <string>

#include "absl/time/time.h"

namespace weightstream {

// Of a request, its header included. Prometheus sends less than 1 KiB.
inline constexpr size_t kMostScrapeRequestBytes = size_t{16} << 10;

// Not thread-safe.
class ScrapeStream final : public httplib::Stream {
 public:
  // The request has to be there within `request` from now, and the answer to be gone within `answer` from its first
  // byte on. `socket` stays the caller's, and outlives this.
  ScrapeStream(int socket, absl::Duration request, absl::Duration answer);

  // 0 at the peer's end, -1 once it is too late or the request is too large.
  ssize_t read(char* ptr, size_t size) override;
  // -1 once it is too late, or the peer has gone.
  ssize_t write(const char* ptr, size_t size) override;
  bool is_readable() const override;
  bool is_writable() const override;
  // Nobody asks where a scraper is.
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  absl::Duration AnswerDeadline() const;

  const int socket_;
  const absl::Duration request_deadline_;
  const absl::Duration answer_;
  // Infinite until there is one.
  absl::Duration answer_deadline_ = absl::InfiniteDuration();
  // httplib reads a byte at a time.
  std::array<char, 4096> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t received_ = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_SCRAPE_STREAM_H_
