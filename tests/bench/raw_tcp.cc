// The ceiling: raw sockets, recv straight into place. No framing, no checksum, no versions.
//
//   raw_tcp receive --place_mib=1024                             prints its address, serves until its stdin closes
//   raw_tcp send HOST:PORT --total_mib=4096 --connections=2      one round; prints a report
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/bench/receiving.h"
#include "tests/bench/sending.h"

ABSL_FLAG(uint64_t, write_kib, 1024, "KiB of one write or read.");

namespace {

using weightstream::bench::Share;

// What each connection starts with.
struct Header {
  uint64_t begin;
  uint64_t bytes;
};

absl::Status ReadFully(int fd, char* data, uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t got = ::recv(fd, data, bytes, 0);
    if (got < 0) return absl::ErrnoToStatus(errno, "recv");
    if (got == 0) return absl::UnavailableError("the peer closed the connection early");
    data += got;
    bytes -= static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::Status WriteFully(int fd, const char* data, uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t put = ::send(fd, data, bytes, MSG_NOSIGNAL);
    if (put < 0) return absl::ErrnoToStatus(errno, "send");
    data += put;
    bytes -= static_cast<uint64_t>(put);
  }
  return absl::OkStatus();
}

absl::StatusOr<sockaddr_in> ParseAddress(const std::string& text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  uint32_t port = 0;
  if (::inet_pton(AF_INET, parts.first.c_str(), &address.sin_addr) != 1 || !absl::SimpleAtoi(parts.second, &port) ||
      port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not IPV4:PORT"));
  }
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

absl::Status ReceiveShare(int fd, absl::Span<char> place, uint64_t step) {
  Header header{};
  if (absl::Status status = ReadFully(fd, reinterpret_cast<char*>(&header), sizeof(header)); !status.ok()) {
    return status;
  }
  uint64_t at = header.begin;
  for (uint64_t left = header.bytes; left > 0;) {
    const uint64_t offset = at % place.size();
    const uint64_t part = std::min({left, step, place.size() - offset});
    if (absl::Status status = ReadFully(fd, place.data() + offset, part); !status.ok()) return status;
    at += part;
    left -= part;
  }
  return WriteFully(fd, "k", 1);
}

void ReceiveConnection(int fd, absl::Span<char> place, uint64_t step) {
  const absl::Status status = ReceiveShare(fd, place, step);
  if (!status.ok()) std::fprintf(stderr, "raw_tcp: %s\n", status.ToString().c_str());
  ::close(fd);
}

absl::StatusOr<std::pair<int, std::string>> Listen() {
  absl::StatusOr<sockaddr_in> address = ParseAddress(absl::GetFlag(FLAGS_listen));
  if (!address.ok()) return address.status();
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  socklen_t length = sizeof(*address);
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&*address), length) != 0 || ::listen(fd, 64) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&*address), &length) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", absl::GetFlag(FLAGS_listen)));
  }
  char host[INET_ADDRSTRLEN];
  ::inet_ntop(AF_INET, &address->sin_addr, host, sizeof(host));
  return std::make_pair(fd, absl::StrCat(host, ":", ntohs(address->sin_port)));
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "raw_tcp: %s\n", status.ToString().c_str());
  return 1;
}

int Receive() {
  const absl::StatusOr<absl::Span<char>> place = weightstream::bench::MapPlace();
  if (!place.ok()) return Fail(place.status());
  const absl::StatusOr<std::pair<int, std::string>> listener = Listen();
  if (!listener.ok()) return Fail(listener.status());
  std::thread([fd = listener->first, place = *place, step = absl::GetFlag(FLAGS_write_kib) << 10] {
    for (;;) {
      const int connection = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) return;
      std::thread(ReceiveConnection, connection, place, step).detach();
    }
  }).detach();
  weightstream::bench::ServeAt(listener->second);
  // The threads above may be in the middle of a call, with nothing to save.
  std::_Exit(0);
}

absl::Status SendShare(const sockaddr_in& address, const Share& share, uint64_t step) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "socket");
  const absl::Cleanup close = [fd] { ::close(fd); };
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::ErrnoToStatus(errno, "connect");
  }
  const Header header = {share.begin, share.bytes.size()};
  absl::Status status = WriteFully(fd, reinterpret_cast<const char*>(&header), sizeof(header));
  for (uint64_t at = 0; status.ok() && at < share.bytes.size(); at += step) {
    const absl::string_view part = share.bytes.substr(at, step);
    status = WriteFully(fd, part.data(), part.size());
  }
  // The receiver says so once the last byte is in place.
  char done = 0;
  return status.ok() ? ReadFully(fd, &done, 1) : status;
}

int Send(const std::string& text) {
  const absl::StatusOr<sockaddr_in> address = ParseAddress(text);
  if (!address.ok()) return Fail(address.status());
  const uint64_t step = absl::GetFlag(FLAGS_write_kib) << 10;
  return weightstream::bench::RunSender("raw_tcp",
                                        [&](const Share& share) { return SendShare(*address, share, step); });
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() == 2 && std::string(arguments[1]) == "receive") return Receive();
  if (arguments.size() == 3 && std::string(arguments[1]) == "send") return Send(arguments[2]);
  std::fprintf(stderr, "usage: raw_tcp receive | raw_tcp send HOST:PORT\n");
  return 2;
}
