// A whole server in the test's process, on a free port of the loopback interface and a data directory of its own.
#ifndef WEIGHTSTREAM_SERVER_TEST_SERVER_H_
#define WEIGHTSTREAM_SERVER_TEST_SERVER_H_

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/cuda/fake_runtime.h"
#include "kernels/host_device.h"
#include "server/server.h"
#include "server/test_client.h"

namespace weightstream {

struct TestServerOptions {
  // The bucket is small, so that small tensors take many chunks.
  TestServerOptions() { limits.bucket_bytes = 1000; }

  Limits limits;
  HostDeviceOptions device;
  // A GPU instead: this runtime's first device.
  std::shared_ptr<FakeCudaRuntime> cuda;
  std::string listen = "127.0.0.1:0";
  SecurityOptions security;
  std::string metrics_listen;
  // Made anew where empty.
  std::string data_dir;
  // As in ServerOptions.
  std::function<void()> on_device_failed;
};

// A kind of device to run the same tests over.
struct TestDevice {
  // CamelCase: it becomes part of the tests' names.
  std::string name;
  bool keeps_files;

  // With a device of this kind, and a staging ring of three slots where it takes one.
  TestServerOptions Options() const;
};

inline void PrintTo(const TestDevice& device, std::ostream* out) { *out << device.name; }

// The host's files, written directly and through staging; the host's memory, and a GPU's over a fake runtime.
std::vector<TestDevice> TestDevices();
// Those that keep files.
std::vector<TestDevice> TestDevicesWithFiles();
// Those whose versions are memory.
std::vector<TestDevice> TestDevicesOfMemory();

class TestServer {
 public:
  // Fails the test if the server does not start.
  explicit TestServer(TestServerOptions options = {});

  Server& server() const { return *server_; }
  const std::string& data_dir() const { return options_.data_dir; }
  // A client with a connection of its own.
  std::unique_ptr<TestClient> NewClient() const { return std::make_unique<TestClient>(server_->address()); }

  // Stops and starts again on the same data directory, at another port. Clients must be made anew.
  void Restart();

 private:
  void Start();
  std::unique_ptr<Device> NewDevice() const;

  TestServerOptions options_;
  std::unique_ptr<Server> server_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TEST_SERVER_H_
