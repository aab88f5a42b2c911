#include "server/test_server.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "kernels/cuda/cuda_device.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

// Far more than the tests of all devices need together.
constexpr uint64_t kMemoryBytes = uint64_t{1} << 30;

}  // namespace

TestServerOptions TestDevice::Options() const {
  TestServerOptions options;
  options.limits.staging_bytes = 3 * options.limits.bucket_bytes;
  options.device.device_like = name != "Host";
  if (name == "HostMemory") options.device.memory = std::make_shared<HostRoom>(kMemoryBytes);
  if (name == "CudaOverFakeRuntime") {
    options.cuda = std::make_shared<FakeCudaRuntime>(FakeCudaOptions{.device_bytes = kMemoryBytes});
  }
  return options;
}

std::vector<TestDevice> TestDevicesWithFiles() { return {{"Host", true}, {"DeviceLike", true}}; }

std::vector<TestDevice> TestDevicesOfMemory() { return {{"HostMemory", false}, {"CudaOverFakeRuntime", false}}; }

std::vector<TestDevice> TestDevices() {
  std::vector<TestDevice> devices = TestDevicesWithFiles();
  for (TestDevice& device : TestDevicesOfMemory()) devices.push_back(std::move(device));
  return devices;
}

TestServer::TestServer(TestServerOptions options) : options_(std::move(options)) {
  if (options_.data_dir.empty()) options_.data_dir = MakeTestFolder();
  Start();
}

void TestServer::Restart() {
  server_.reset();
  Start();
}

std::unique_ptr<Device> TestServer::NewDevice() const {
  if (options_.cuda == nullptr) return NewHostDevice(options_.device);
  return CudaDevice::Open(options_.cuda.get(), {}).value();
}

void TestServer::Start() {
  ServerOptions options;
  options.listen = options_.listen;
  options.data_dir = options_.data_dir;
  options.metrics_listen = options_.metrics_listen;
  options.limits = options_.limits;
  options.security = options_.security;
  options.on_device_failed = options_.on_device_failed;
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options, NewDevice());
  if (!server.ok()) {
    // Nothing in the test can go on without it.
    std::fprintf(stderr, "the test's server does not start: %s\n", server.status().ToString().c_str());
    std::abort();
  }
  server_ = *std::move(server);
}

}  // namespace weightstream
