// The door: takes connections in, and passes those on to gRPC that have something to say and for which there is room.
//
// gRPC 1.51 takes whatever connects, without a bound. So the server accepts by itself and hands descriptors over
// (grpc::experimental::ExternalConnectionAcceptor). Three things follow:
//
// - Who connects and says nothing costs a descriptor here and nothing in gRPC, and keeps nobody out: it counts for no
//   limit, waits for as long as a handshake may take, and goes first when too many wait. That one has something to say
//   shows in its first bytes, as many as the fixed start of HTTP/2 has; a TLS handshake's first record is longer.
// - Who speaks is passed on as long as its peer, and all peers together, have not too many connections.
// - Who is turned away is closed, which gRPC shows as UNAVAILABLE and tries again with growing pauses; the log and the
//   metrics have the reason. A GOAWAY could carry words, but was measured to do harm: clients take the SETTINGS before
//   it for success, forget their pauses, and were back 1,500 times a second.
//
// What comes after is gRPC's: a handshake that is not finished in time, a connection without calls.
#ifndef WEIGHTSTREAM_SERVER_CONNECTION_GATE_H_
#define WEIGHTSTREAM_SERVER_CONNECTION_GATE_H_

#include <grpcpp/server_builder.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/listening_sockets.h"
#include "server/log_brake.h"
#include "server/metrics.h"
#include "server/open_connections.h"
#include "tensor/file_descriptor.h"

namespace weightstream {

class ConnectionGate {
 public:
  struct Options {
    OpenConnections::Bounds bounds;
    // Connections that may wait to say something; of one peer, half as many. When one more comes, the one that has
    // waited the longest goes.
    size_t most_waiting = 0;
    // How long a connection may take to say its first bytes.
    absl::Duration patience;
  };

  // Starts to take connections in. The acceptor's gRPC server must have been started; `metrics` outlives the gate.
  // RESOURCE_EXHAUSTED where the process has no descriptor or no thread left for it.
  static absl::StatusOr<std::unique_ptr<ConnectionGate>> Open(
      std::unique_ptr<ListeningSockets> sockets,
      std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor, const Options& options,
      Metrics& metrics);
  // As Close.
  ~ConnectionGate();
  ConnectionGate(const ConnectionGate&) = delete;
  ConnectionGate& operator=(const ConnectionGate&) = delete;

  // Listens no more, and closes what was not passed on. To be called before the gRPC server is shut down, which would
  // leave a descriptor open that it is given later. Idempotent; from one thread at a time.
  void Close();

 private:
  // One that has not spoken yet.
  struct Waiting {
    FileDescriptor socket;
    std::string peer;
    // As MonotonicNow() tells.
    absl::Duration deadline;
  };
  using WaitingList = std::list<Waiting>;

  ConnectionGate(std::unique_ptr<ListeningSockets> sockets,
                 std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor, const Options& options,
                 Metrics& metrics);

  absl::Status Start();
  void Run();
  // Milliseconds until the first of those that wait has waited for too long; -1 if none waits.
  int NextTimeout() const;
  bool IsListening(int fd) const;
  void Accept(int listening);
  // No descriptor is left for one that knocks.
  void AwaitDescriptor();
  // Says in the log that connections were turned away, once in a while.
  void Tell(const std::string& peer, absl::string_view why);
  void Welcome(FileDescriptor socket, std::string peer);
  // Closes one that waits and has said nothing, where one more would be too many.
  void MakeRoom(const std::string& peer);
  // One that waits said something, or went away (`gone`).
  void Speaks(int fd, bool gone);
  void PassOn(FileDescriptor socket, const std::string& peer);
  void TurnAway(const std::string& peer, OpenConnections::Verdict verdict);
  void DropOverdue();
  // Closes one that waits and has said nothing.
  void DropSilent(WaitingList::iterator waiting);
  void Forget(WaitingList::iterator waiting);

  const Options options_;
  Metrics& metrics_;
  std::unique_ptr<ListeningSockets> sockets_;
  const std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  // Of the thread only, from here on.
  OpenConnections open_;
  // The longest waiting first.
  WaitingList waiting_;
  std::unordered_map<int, WaitingList::iterator> by_fd_;
  std::map<std::string, size_t> waiting_of_peer_;
  LogBrake brake_;

  FileDescriptor poll_;
  FileDescriptor stop_;
  std::thread thread_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_CONNECTION_GATE_H_
