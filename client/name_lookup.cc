#include "client/name_lookup.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "client/start_thread.h"
#include "tensor/monotonic_clock.h"
#include "tensor/monotonic_cond_var.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

// How soon a cancellation takes hold.
constexpr absl::Duration kCancelInterval = absl::Milliseconds(50);

// In the order in which they are told: IPv4 first, then by the bytes of the address.
struct Found {
  bool v6 = false;
  std::string bytes;
  uint32_t scope = 0;
  std::string text;

  auto Key() const { return std::tie(v6, bytes, scope); }
};

bool Read(const addrinfo& info, Found& found) {
  if (info.ai_family == AF_INET) {
    const auto* const name = reinterpret_cast<const sockaddr_in*>(info.ai_addr);
    found.bytes.assign(reinterpret_cast<const char*>(&name->sin_addr), sizeof(name->sin_addr));
  } else if (info.ai_family == AF_INET6) {
    const auto* const name = reinterpret_cast<const sockaddr_in6*>(info.ai_addr);
    found.v6 = true;
    found.bytes.assign(reinterpret_cast<const char*>(&name->sin6_addr), sizeof(name->sin6_addr));
    found.scope = name->sin6_scope_id;
  } else {
    return false;
  }
  char text[NI_MAXHOST];
  if (::getnameinfo(info.ai_addr, info.ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) return false;
  found.text = text;
  return true;
}

absl::Status NotFound(const std::string& name, absl::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("the name \"", Printable(name), "\" has no address: ", why,
                   "; check the name and this host's resolver (a headless service has addresses only while it has "
                   "pods), or give addresses"));
}

absl::StatusOr<std::vector<std::string>> Ask(const std::string& name) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  // Without it a host that has only IPv4 would be told of addresses that it cannot reach.
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* first = nullptr;
  const int failed = ::getaddrinfo(name.c_str(), nullptr, &hints, &first);
  const int error = errno;
  if (failed == EAI_SYSTEM) return NotFound(name, std::error_code(error, std::generic_category()).message());
  if (failed != 0) return NotFound(name, ::gai_strerror(failed));
  const absl::Cleanup release = [first] { ::freeaddrinfo(first); };
  std::vector<Found> all;
  for (const addrinfo* info = first; info != nullptr; info = info->ai_next) {
    Found found;
    if (Read(*info, found)) all.push_back(std::move(found));
  }
  std::sort(all.begin(), all.end(), [](const Found& a, const Found& b) { return a.Key() < b.Key(); });
  const auto same = [](const Found& a, const Found& b) { return a.Key() == b.Key(); };
  all.erase(std::unique(all.begin(), all.end(), same), all.end());
  std::vector<std::string> addresses;
  for (Found& found : all) addresses.push_back(std::move(found.text));
  if (addresses.empty()) return NotFound(name, "it has records of other kinds only");
  return addresses;
}

// Shared with the thread, which may outlive the wait for it.
struct Lookup {
  absl::Mutex mutex;
  MonotonicCondVar ended;
  absl::optional<absl::StatusOr<std::vector<std::string>>> addresses ABSL_GUARDED_BY(mutex);

  void End(absl::StatusOr<std::vector<std::string>> found) {
    absl::MutexLock lock(&mutex);
    addresses = std::move(found);
    ended.SignalAll();
  }

  // What was found, if it is there within `limit`.
  absl::optional<absl::StatusOr<std::vector<std::string>>> Await(absl::Duration limit) {
    absl::MutexLock lock(&mutex);
    ended.AwaitFor(mutex, limit, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return addresses.has_value(); });
    return addresses;
  }
};

}  // namespace

NameLookup SystemNameLookup(absl::Duration limit, std::function<bool()> cancelled) {
  return WithinLimit(Ask, limit, std::move(cancelled));
}

NameLookup WithinLimit(NameLookup blocking, absl::Duration limit, std::function<bool()> cancelled) {
  const absl::Duration deadline = MonotonicNow() + limit;
  return [blocking = std::move(blocking), limit, deadline,
          cancelled = std::move(cancelled)](const std::string& name) -> absl::StatusOr<std::vector<std::string>> {
    const auto lookup = std::make_shared<Lookup>();
    std::thread thread;
    const absl::Status started = StartThread(thread, [blocking, lookup, name] { lookup->End(blocking(name)); });
    if (!started.ok()) return started;
    // getaddrinfo, above all, has no deadline and cannot be ended.
    thread.detach();
    for (;;) {
      const absl::Duration left = std::max(absl::ZeroDuration(), deadline - MonotonicNow());
      if (auto addresses = lookup->Await(std::min(left, kCancelInterval)); addresses.has_value()) return *addresses;
      if (cancelled != nullptr && cancelled()) return absl::CancelledError("cancelled by the caller");
      if (left == absl::ZeroDuration()) {
        return absl::DeadlineExceededError(absl::StrCat("the name \"", Printable(name), "\" was not resolved within ",
                                                        absl::FormatDuration(limit),
                                                        "; check this host's resolver, or give addresses"));
      }
    }
  };
}

}  // namespace weightstream
