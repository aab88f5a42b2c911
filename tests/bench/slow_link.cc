// A link with delay, loss and a rate, where the kernel has no netem: carries packets between two TUN devices.
//
//   slow_link NAMESPACE_A DEVICE_A NAMESPACE_B DEVICE_B --delay_ms=25 --loss=0.001 --mbit=1000 --queue_packets=100000
//
// Each direction delays, loses and paces like `tc qdisc add ... netem delay 25ms loss 0.1% rate 1gbit limit 100000`
// does: a packet that is not lost waits for its turn on the line and arrives `delay` later; one that finds the queue
// full is dropped; --reorder holds some back, so that later ones overtake them. The devices exist already, each in its
// network namespace: a name that `ip netns` knows, or a path. Needs root. Prints "carrying" once it does, and runs
// until it is ended by a signal.
//
// With --control it takes new conditions from stdin, a line of "NAME=VALUE ..." with the names delay_ms, loss, mbit and
// reorder at a time, answers each with "set" or "unknown", and ends when stdin does.
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

ABSL_FLAG(double, delay_ms, 25, "Milliseconds that a packet travels, one way.");
ABSL_FLAG(double, loss, 0.001, "Part of the packets that is lost, each way.");
ABSL_FLAG(double, mbit, 1000, "Megabits a second, each way.");
ABSL_FLAG(double, reorder, 0, "Part of the packets that is held back for up to --reorder_ms, each way.");
ABSL_FLAG(double, reorder_ms, 10, "The most milliseconds that a packet is held back for.");
ABSL_FLAG(uint64_t, queue_packets, 100000, "Most packets under way, each way.");
ABSL_FLAG(bool, control, false, "Take new conditions from stdin.");

namespace {

// Larger than any packet of the devices.
constexpr size_t kMostPacketBytes = 65536;
// Packets taken in one go, so that neither reading nor writing starves the other.
constexpr int kBurst = 64;

// What the line is like now; set by one thread, read by those of both directions.
struct Conditions {
  std::atomic<double> delay_ms{absl::GetFlag(FLAGS_delay_ms)};
  std::atomic<double> loss{absl::GetFlag(FLAGS_loss)};
  std::atomic<double> mbit{absl::GetFlag(FLAGS_mbit)};
  std::atomic<double> reorder{absl::GetFlag(FLAGS_reorder)};

  // One "NAME=VALUE"; false if there is no such name or no such value.
  bool Set(absl::string_view word) {
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
    double value = 0;
    if (!absl::SimpleAtod(parts.second, &value) || value < 0) return false;
    const std::pair<absl::string_view, std::atomic<double>*> all[] = {
        {"delay_ms", &delay_ms}, {"loss", &loss}, {"mbit", &mbit}, {"reorder", &reorder}};
    for (const auto& [name, member] : all) {
      if (parts.first != name) continue;
      member->store(value);
      return true;
    }
    return false;
  }
};

absl::StatusOr<int> OpenDevice(const std::string& space, const std::string& device) {
  const std::string path = absl::StrContains(space, "/") ? space : absl::StrCat("/var/run/netns/", space);
  const int netns = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (netns < 0) return absl::ErrnoToStatus(errno, absl::StrCat("no network namespace ", space));
  // Only this thread moves, and only to open the device: packets flow wherever the descriptor is used.
  const int moved = ::setns(netns, CLONE_NEWNET);
  ::close(netns);
  if (moved != 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot enter ", space));
  const int fd = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, "/dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  std::strncpy(request.ifr_name, device.c_str(), IFNAMSIZ - 1);
  if (::ioctl(fd, TUNSETIFF, &request) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot attach to ", device, " in ", space));
  }
  return fd;
}

// One direction, in a thread of its own.
class Direction {
 public:
  Direction(int from, int to, uint32_t seed, const Conditions& conditions)
      : from_(from), to_(to), conditions_(conditions), random_(seed) {}

  void Carry() {
    // Packets are 12 microseconds apart at 1 Gbit/s; the kernel's default would wake us 50 late.
    ::prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
      Wait();
      TakeArrived();
      DeliverDue();
    }
  }

 private:
  void Wait() {
    pollfd entry = {from_, POLLIN, 0};
    const absl::Duration until = under_way_.empty() ? absl::Seconds(1) : under_way_.begin()->first - absl::Now();
    const timespec limit = absl::ToTimespec(std::max(until, absl::ZeroDuration()));
    ::ppoll(&entry, 1, &limit, nullptr);
  }

  void TakeArrived() {
    for (int i = 0; i < kBurst; ++i) {
      const ssize_t got = ::read(from_, buffer_.data(), buffer_.size());
      if (got <= 0) return;
      Admit(static_cast<size_t>(got));
    }
  }

  void Admit(size_t bytes) {
    if (under_way_.size() >= queue_packets_ || Chance(conditions_.loss)) return;
    const absl::Time now = absl::Now();
    line_free_ = std::max(line_free_, now) + absl::Seconds(static_cast<double>(bytes) * 8 / (conditions_.mbit * 1e6));
    absl::Time due = line_free_ + absl::Milliseconds(conditions_.delay_ms.load());
    if (Chance(conditions_.reorder)) due += reorder_most_ * std::uniform_real_distribution<>()(random_);
    under_way_.emplace(due, std::string(buffer_.data(), bytes));
  }

  bool Chance(double probability) { return std::uniform_real_distribution<>()(random_) < probability; }

  void DeliverDue() {
    const absl::Time now = absl::Now();
    for (int i = 0; i < kBurst && !under_way_.empty() && under_way_.begin()->first <= now; ++i) {
      const std::string& bytes = under_way_.begin()->second;
      // A device that takes no more drops the packet, as a network card does.
      static_cast<void>(::write(to_, bytes.data(), bytes.size()) == 0);
      under_way_.erase(under_way_.begin());
    }
  }

  const int from_, to_;
  const Conditions& conditions_;
  const absl::Duration reorder_most_ = absl::Milliseconds(absl::GetFlag(FLAGS_reorder_ms));
  const size_t queue_packets_ = absl::GetFlag(FLAGS_queue_packets);
  std::mt19937 random_;
  // By when they are due; those that are due at once, in the order in which they came.
  std::multimap<absl::Time, std::string> under_way_;
  // When the line has sent everything that it was given.
  absl::Time line_free_ = absl::InfinitePast();
  std::array<char, kMostPacketBytes> buffer_{};
};

void TakeConditions(Conditions& conditions) {
  for (std::string line; std::getline(std::cin, line);) {
    bool known = true;
    for (const absl::string_view word : absl::StrSplit(line, ' ', absl::SkipEmpty())) known &= conditions.Set(word);
    std::puts(known ? "set" : "unknown");
    std::fflush(stdout);
  }
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "slow_link: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() != 5) {
    std::fprintf(stderr, "usage: slow_link NAMESPACE_A DEVICE_A NAMESPACE_B DEVICE_B\n");
    return 2;
  }
  const absl::StatusOr<int> a = OpenDevice(arguments[1], arguments[2]);
  if (!a.ok()) return Fail(a.status());
  const absl::StatusOr<int> b = OpenDevice(arguments[3], arguments[4]);
  if (!b.ok()) return Fail(b.status());
  Conditions conditions;
  Direction forth(*a, *b, 1, conditions), back(*b, *a, 2, conditions);
  std::thread back_thread([&back] { back.Carry(); });
  std::thread forth_thread([&forth] { forth.Carry(); });
  std::puts("carrying");
  std::fflush(stdout);
  if (absl::GetFlag(FLAGS_control)) {
    TakeConditions(conditions);
    std::_Exit(0);
  }
  forth_thread.join();
}
