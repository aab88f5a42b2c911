// The ceiling: raw sockets over loopback, recv straight into place. No framing, no checksum, no versions.
//
//   raw_tcp receive --place-mib=1024                          prints its port, serves rounds until its stdin closes
//   raw_tcp send PORT --total-mib=4096 --connections=2        one round; prints a report
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "tests/bench/cycled_buffer.h"
#include "tests/bench/round_report.h"

ABSL_FLAG(uint64_t, place_mib, 1024, "MiB of the receiver's destination.");
ABSL_FLAG(uint64_t, total_mib, 4096, "MiB to send.");
ABSL_FLAG(uint64_t, period_mib, 1024, "MiB of distinct bytes.");
ABSL_FLAG(uint64_t, write_kib, 1024, "KiB of one write or read.");
ABSL_FLAG(int, connections, 2, "TCP connections.");

namespace {

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::exit(1);
}

// The first 8 bytes of each connection say how many follow.
void ReadFully(int fd, char* data, uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t got = ::recv(fd, data, bytes, 0);
    if (got <= 0) Die("recv");
    data += got;
    bytes -= static_cast<uint64_t>(got);
  }
}

void WriteFully(int fd, const char* data, uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t put = ::send(fd, data, bytes, MSG_NOSIGNAL);
    if (put <= 0) Die("send");
    data += put;
    bytes -= static_cast<uint64_t>(put);
  }
}

void ReceiveConnection(int fd, char* place, uint64_t place_bytes, uint64_t step) {
  uint64_t header[2];
  ReadFully(fd, reinterpret_cast<char*>(header), sizeof(header));
  uint64_t at = header[0];
  for (uint64_t left = header[1]; left > 0;) {
    const uint64_t offset = at % place_bytes;
    const uint64_t part = std::min({left, step, place_bytes - offset});
    ReadFully(fd, place + offset, part);
    at += part;
    left -= part;
  }
  WriteFully(fd, "k", 1);
  ::close(fd);
}

int Receive() {
  const uint64_t bytes = absl::GetFlag(FLAGS_place_mib) << 20;
  void* const place = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (place == MAP_FAILED) Die("mmap");
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener, 64) != 0)
    Die("listen");
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  std::printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  std::thread([listener, place, bytes, step = absl::GetFlag(FLAGS_write_kib) << 10] {
    for (;;) {
      const int fd = ::accept(listener, nullptr, nullptr);
      if (fd < 0) return;
      std::thread(ReceiveConnection, fd, static_cast<char*>(place), bytes, step).detach();
    }
  }).detach();
  while (std::getchar() != EOF) {
  }
  std::_Exit(0);
}

void SendPart(uint16_t port, absl::string_view bytes, uint64_t begin, uint64_t step) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Die("connect");
  const uint64_t header[2] = {begin, bytes.size()};
  WriteFully(fd, reinterpret_cast<const char*>(header), sizeof(header));
  for (; !bytes.empty(); bytes.remove_prefix(std::min<uint64_t>(step, bytes.size()))) {
    const absl::string_view part = bytes.substr(0, step);
    WriteFully(fd, part.data(), part.size());
  }
  char done = 0;
  ReadFully(fd, &done, 1);
  ::close(fd);
}

int Send(uint16_t port) {
  const uint64_t total = absl::GetFlag(FLAGS_total_mib) << 20;
  auto source = weightstream::bench::CycledBuffer::Create(total, absl::GetFlag(FLAGS_period_mib) << 20);
  if (!source.ok()) {
    std::fprintf(stderr, "%s\n", source.status().ToString().c_str());
    return 1;
  }
  const uint64_t connections = static_cast<uint64_t>(absl::GetFlag(FLAGS_connections));
  const uint64_t share = total / connections;
  const weightstream::bench::RoundReport report;
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < connections; ++i) {
    const uint64_t begin = i * share;
    const uint64_t bytes = i + 1 == connections ? total - begin : share;
    threads.emplace_back(SendPart, port, (*source)->bytes().substr(begin, bytes), begin,
                         absl::GetFlag(FLAGS_write_kib) << 10);
  }
  for (std::thread& thread : threads) thread.join();
  report.Print(total);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  int port = 0;
  if (arguments.size() == 2 && std::string(arguments[1]) == "receive") return Receive();
  if (arguments.size() == 3 && std::string(arguments[1]) == "send" && absl::SimpleAtoi(arguments[2], &port)) {
    return Send(static_cast<uint16_t>(port));
  }
  std::fprintf(stderr, "usage: raw_tcp receive | raw_tcp send PORT\n");
  return 2;
}
