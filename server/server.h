// A whole server in one object: what weightstream-server runs, and what tests start in their own process.
#ifndef WEIGHTSTREAM_SERVER_SERVER_H_
#define WEIGHTSTREAM_SERVER_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "server/commit_hook.h"
#include "server/limits.h"
#include "server/security_options.h"

namespace weightstream {

struct ServerOptions {
  // host:port (port 0: any free one), [v6]:port, or unix:/path.
  // Beyond loopback and unix sockets only with TLS, or where `security` allows plaintext.
  std::string listen = "127.0.0.1:7070";
  std::string data_dir = "/dev/shm/weightstream";
  // Where Prometheus may scrape, host:port or [v6]:port (port 0: any free one); nowhere if empty.
  std::string metrics_listen;
  Limits limits;
  SecurityOptions security;
  // Who is told of each version that becomes current.
  CommitHookOptions on_commit;
  // Called once the device has failed for good, on a thread of the server's own, which it must not keep.
  std::function<void()> on_device_failed = {};
};

class Server {
 public:
  // Recovers the data directory and starts to serve. Errors say what to do: the address cannot be listened on, the
  // folder cannot be written or is in use, staging cannot be allocated, a certificate or the file of tokens is not
  // sound.
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options, std::unique_ptr<Device> device);

  // As Shutdown(absl::ZeroDuration()).
  virtual ~Server() = default;

  // Where it listens, with the real port.
  virtual const std::string& address() const = 0;

  // Looks at certificates and tokens again, which it also does by itself about once a second. What has changed is taken
  // once two such looks in a row saw the same.
  virtual void ReloadSecurity() = 0;
  // Where metrics are served, with the real port; empty if they are not.
  virtual std::string metrics_address() const = 0;

  // Begins no more updates, lets those in flight finish for `patience`, aborts the rest, ends all calls. Returns once
  // all is stopped and freed. Idempotent.
  virtual void Shutdown(absl::Duration patience) = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_SERVER_H_
