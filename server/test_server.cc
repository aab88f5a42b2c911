#include "server/test_server.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "tensor/test_files.h"

namespace weightstream {

TestServer::TestServer(TestServerOptions options) : options_(std::move(options)) {
  if (options_.data_dir.empty()) options_.data_dir = MakeTestFolder();
  Start();
}

void TestServer::Restart() {
  server_.reset();
  Start();
}

void TestServer::Start() {
  ServerOptions options;
  options.listen = options_.listen;
  options.data_dir = options_.data_dir;
  options.metrics_listen = options_.metrics_listen;
  options.limits = options_.limits;
  options.security = options_.security;
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options, NewHostDevice(options_.device));
  if (!server.ok()) {
    // Nothing in the test can go on without it.
    std::fprintf(stderr, "the test's server does not start: %s\n", server.status().ToString().c_str());
    std::abort();
  }
  server_ = *std::move(server);
}

}  // namespace weightstream
