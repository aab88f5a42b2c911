// A path between client and server for tests: forwards TCP, and cuts or freezes connections as told.
#ifndef WEIGHTSTREAM_CLIENT_FLAKY_PROXY_H_
#define WEIGHTSTREAM_CLIENT_FLAKY_PROXY_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weightstream {

// Thread-safe.
class FlakyProxy {
 public:
  // To 127.0.0.1:target_port.
  explicit FlakyProxy(int target_port);
  ~FlakyProxy();

  // 127.0.0.1:PORT.
  const std::string& address() const { return address_; }

  // The next connections that carry more than `bytes` towards the server are cut there, `times` of them.
  void CutAfter(uint64_t bytes, int times);
  // From now on, or once `bytes` in all went towards the server, nothing is forwarded any more in either direction, on
  // old connections and new ones: what a peer sees of a stopped machine, whose kernel still accepts.
  void FreezeAfter(uint64_t bytes);

  // Connections that were cut.
  int cuts() const { return cuts_.load(); }
  bool frozen() const;

 private:
  struct Connection;

  void Accept();
  void Forward(int client);
  // False once the connection must end.
  bool Pump(int from, int to, Connection& connection, bool towards_server);

  const int target_port_;
  std::string address_;
  int listener_ = -1;
  int wake_read_ = -1;
  int wake_write_ = -1;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> cuts_ = 0;
  std::atomic<int> cuts_left_ = 0;
  std::atomic<uint64_t> cut_after_ = 0;
  std::atomic<uint64_t> freeze_after_ = UINT64_MAX;
  std::atomic<uint64_t> towards_server_ = 0;
  std::thread acceptor_;
  absl::Mutex mutex_;
  std::vector<std::thread> forwarders_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_FLAKY_PROXY_H_
