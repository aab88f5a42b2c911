// ExportTarget: what another process is told of a version's memory, and that the memory stays for as long as the lease.
#include <ifaddrs.h>
#include <netinet/in.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/error_codes.h"
#include "proto/status.h"
#include "server/log.h"
#include "server/test_child.h"
#include "server/test_registration.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kVersionBytes = 4 * kMiB;
constexpr uint64_t kOwnBytes = 2 * kMiB;

// A lease that a test holds.
class Lease {
 public:
  Lease(TestClient& client, const std::string& model, uint64_t version = 0) {
    v1::ExportTargetRequest request;
    request.set_model(model);
    request.set_version(version);
    reader_ = client.stub().ExportTarget(context_.get(), request);
    held_ = reader_->Read(&target_);
  }

  bool held() const { return held_; }
  const v1::ExportedTarget& target() const { return target_; }
  // Ends it, or learns why it ended.
  absl::Status End() {
    context_->TryCancel();
    return AwaitEnd();
  }
  absl::Status AwaitEnd() {
    while (reader_->Read(&target_)) {
    }
    return FromGrpcStatus(reader_->Finish());
  }

 private:
  const std::unique_ptr<grpc::ClientContext> context_ = NewContext();
  v1::ExportedTarget target_;
  std::unique_ptr<grpc::ClientReader<v1::ExportedTarget>> reader_;
  bool held_ = false;
};

class ServiceExportTest : public testing::Test {
 protected:
  // A GPU with room for so many versions.
  void Start(uint64_t versions, std::string listen = "127.0.0.1:0") {
    cuda_ = std::make_shared<FakeCudaRuntime>(FakeCudaOptions{.device_bytes = versions * kVersionBytes + kOwnBytes});
    TestServerOptions options;
    options.limits.bucket_bytes = kMiB;
    options.limits.staging_bytes = 3 * kMiB;
    options.limits.keep_versions = keep_versions_;
    options.limits.keepalive_time = keepalive_time_;
    // Of the test's own connections too, on a machine that is busy.
    options.limits.keepalive_timeout = absl::Seconds(5);
    options.cuda = cuda_;
    options.security.allow_plaintext = true;
    options.listen = std::move(listen);
    server_ = std::make_unique<TestServer>(options);
    client_ = server_->NewClient();
  }

  static std::vector<TestTensor> Tensors(uint64_t seed) {
    return {MakeTensor("a", DType::kF32, {256, 1024}, seed), MakeTensor("b", DType::kU8, {3 * kMiB}, seed + 100)};
  }

  absl::Status Push(uint64_t version) { return client_->PushVersion("m", version, Tensors(version)); }

  // What a process that opens the handle reads.
  std::map<std::string, std::string> ReadExported(const v1::ExportedTarget& target) {
    std::map<std::string, std::string> data;
    const char* const allocation = cuda_->SeenElsewhere(target.memory().handle());
    EXPECT_NE(allocation, nullptr);
    if (allocation == nullptr) return data;
    for (const v1::ExportedTensor& tensor : target.tensors()) {
      uint64_t bytes = tensor.spec().dtype() == "F32" ? 4 : 1;
      for (const uint64_t size : tensor.spec().shape()) bytes *= size;
      EXPECT_LE(tensor.offset() + bytes, target.memory().bytes());
      data[tensor.spec().name()] = std::string(allocation + target.memory().offset() + tensor.offset(), bytes);
    }
    return data;
  }

  uint32_t Exports(uint64_t version) {
    const auto model = client_->GetModel("m");
    for (const v1::VersionInfo& info : model->versions()) {
      if (info.version() == version) return info.exports();
    }
    return 0;
  }

  uint64_t keep_versions_ = 2;
  absl::Duration keepalive_time_ = Limits().keepalive_time;
  std::shared_ptr<FakeCudaRuntime> cuda_;
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<TestClient> client_;
};

TEST_F(ServiceExportTest, AnotherProcessReadsTheVersionWhereItLies) {
  Start(2);
  ASSERT_TRUE(Push(1).ok());
  ASSERT_TRUE(Push(2).ok());
  Lease current(*client_, "m");
  Lease first(*client_, "m", 1);
  ASSERT_TRUE(current.held() && first.held());
  EXPECT_EQ(current.target().model(), "m");
  EXPECT_EQ(current.target().version(), 2u);
  EXPECT_EQ(current.target().memory().handle().size(), 64u);
  EXPECT_EQ(current.target().memory().device_uuid(), std::string(16, '\xA0'));
  EXPECT_EQ(current.target().memory().bytes(), kVersionBytes);
  EXPECT_EQ(current.target().manifest_crc32c(), client_->GetModel("m")->versions(1).manifest_crc32c());
  EXPECT_EQ(ReadExported(current.target()), DataOf(Tensors(2)));
  EXPECT_EQ(ReadExported(first.target()), DataOf(Tensors(1)));
  EXPECT_EQ(Exports(1), 1u);
  EXPECT_EQ(Exports(2), 1u);
  EXPECT_EQ(current.End().code(), StatusCode::kCancelled);
  EXPECT_TRUE(WaitFor([&] { return Exports(2) == 0; }));
  EXPECT_EQ(Exports(1), 1u);
}

TEST_F(ServiceExportTest, AnExportedVersionOutlivesRetentionAndGoesWithItsLease) {
  keep_versions_ = 1;
  Start(2);
  ASSERT_TRUE(Push(1).ok());
  Lease lease(*client_, "m");
  ASSERT_TRUE(lease.held());
  ASSERT_TRUE(Push(2).ok());
  EXPECT_EQ(client_->GetModel("m")->versions_size(), 2) << "one is kept, and one is exported";
  EXPECT_EQ(ReadExported(lease.target()), DataOf(Tensors(1)));
  EXPECT_EQ(lease.End().code(), StatusCode::kCancelled);
  EXPECT_TRUE(WaitFor([&] { return client_->GetModel("m")->versions_size() == 1; }));
  EXPECT_TRUE(WaitFor([&] { return cuda_->live_device_bytes() == kVersionBytes + kOwnBytes; }));
}

TEST_F(ServiceExportTest, AnExportedVersionIsNeitherRemovedForRoomNorOverwritten) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  Lease lease(*client_, "m");
  ASSERT_TRUE(lease.held());
  ExpectError(client_->Begin(BeginRequest("m", 2, Tensors(2))).status(), StatusCode::kResourceExhausted,
              {"nor can it be written over version 1", "1 process has open (ExportTarget)"});
  EXPECT_EQ(ReadExported(lease.target()), DataOf(Tensors(1)));
  static_cast<void>(lease.End());
  EXPECT_TRUE(WaitFor([&] { return Exports(1) == 0; }));
  EXPECT_TRUE(Push(2).ok());
}

TEST_F(ServiceExportTest, AnExportedVersionCanBeRolledBackToOnceTheOtherCannotBeTrusted) {
  Start(2);
  ASSERT_TRUE(Push(1).ok());
  Lease lease(*client_, "m");
  ASSERT_TRUE(lease.held());
  ASSERT_TRUE(Push(2).ok());
  const auto begun = client_->Begin(BeginRequest("m", 3, Tensors(3)));
  ASSERT_TRUE(begun.ok()) << begun.status();
  ASSERT_TRUE(client_->Push({ChunkOf(Tensors(3)[0], 0, 1000, begun->update_id())}).ok());
  ASSERT_TRUE(client_->Abort("m", begun->update_id(), "").ok());
  EXPECT_EQ(client_->GetModel("m")->weights_state(), v1::WEIGHTS_STATE_UNTRUSTED);
  EXPECT_EQ(client_->GetModel("m")->overwritten_version(), 2u);
  EXPECT_TRUE(WaitFor([&] { return !client_->Serving("m").value(); }));
  ASSERT_TRUE(client_->Rollback("m", 1).ok());
  EXPECT_EQ(client_->GetModel("m")->weights_state(), v1::WEIGHTS_STATE_WHOLE);
  EXPECT_EQ(client_->GetModel("m")->overwritten_version(), 0u);
  EXPECT_TRUE(client_->Serving("m").value());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(1)));
}

// Retention must not take the version away under the update: its readers would not hear that it is overwritten.
TEST_F(ServiceExportTest, AReaderOfAVersionBeyondRetentionNeverGetsTheBytesThatOverwriteIt) {
  keep_versions_ = 1;
  Start(2);
  ASSERT_TRUE(Push(1).ok());
  Lease lease(*client_, "m");
  ASSERT_TRUE(lease.held());
  ASSERT_TRUE(Push(2).ok());
  const auto stub = SlowReaderStub(server_->server().address());
  v1::PullRequest request;
  request.set_model("m");
  request.set_version(2);
  request.set_bucket_limit_bytes(1000);
  const auto context = NewContext();
  const auto reader = stub->Pull(context.get(), request);
  v1::WeightChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));

  // Version 1 cannot go, so this one is written over version 2, which is then neither current nor exported.
  const auto begun = client_->Begin(BeginRequest("m", 3, Tensors(3)));
  ASSERT_TRUE(begun.ok()) << begun.status();
  ASSERT_EQ(client_->GetModel("m")->updates(0).mode(), v1::UPDATE_MODE_IN_PLACE);
  ASSERT_TRUE(client_->Rollback("m", 1).ok());
  static_cast<void>(lease.End());
  ASSERT_TRUE(WaitFor([&] { return Exports(1) == 0; }));
  ASSERT_TRUE(client_->Push(ChunksOf(Tensors(3), kMiB, begun->update_id())).ok());
  std::map<std::string, std::string> got;
  do {
    got[chunk.name()] += chunk.data();
  } while (reader->Read(&chunk));
  ExpectError(FromGrpcStatus(reader->Finish()), StatusCode::kFailedPrecondition,
              {"version 2 of model 'm' is being overwritten in place"});
  for (const auto& [name, data] : got) {
    EXPECT_TRUE(data == DataOf(Tensors(2)).at(name).substr(0, data.size())) << name << " has bytes of another version";
  }
  ASSERT_TRUE(client_->Commit("m", begun->update_id()).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(3)));
}

TEST_F(ServiceExportTest, AVersionThatStayedForAnUpdateGoesWithIt) {
  keep_versions_ = 1;
  Start(2);
  ASSERT_TRUE(Push(1).ok());
  Lease lease(*client_, "m");
  ASSERT_TRUE(Push(2).ok());
  const auto begun = client_->Begin(BeginRequest("m", 3, Tensors(3)));
  ASSERT_TRUE(begun.ok()) << begun.status();
  ASSERT_TRUE(client_->Rollback("m", 1).ok());
  static_cast<void>(lease.End());
  ASSERT_TRUE(WaitFor([&] { return Exports(1) == 0; }));
  EXPECT_EQ(client_->GetModel("m")->versions_size(), 2);
  testing::internal::CaptureStderr();
  EXPECT_TRUE(StartLogging("info", LogFormat::kText).ok());
  EXPECT_TRUE(client_->Abort("m", begun->update_id(), "").ok());
  EXPECT_TRUE(WaitFor([&] { return client_->GetModel("m")->versions_size() == 1; }));
  EXPECT_TRUE(client_->PullTensors("m").ok());
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr(absl::StrCat("version_removed model=m version=2 update=", begun->update_id())));
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(Tensors(1)));
}

TEST_F(ServiceExportTest, AVersionThatIsAboutToBeOverwrittenIsNotExported) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  const auto begun = client_->Begin(BeginRequest("m", 2, Tensors(2)));
  ASSERT_TRUE(begun.ok()) << begun.status();
  Lease refused(*client_, "m");
  EXPECT_FALSE(refused.held());
  ExpectError(refused.AwaitEnd(), StatusCode::kFailedPrecondition, {"about to be overwritten in place"});
  ASSERT_TRUE(client_->Abort("m", begun->update_id(), "").ok());
  EXPECT_TRUE(Lease(*client_, "m").held());
}

TEST_F(ServiceExportTest, ALeaseEndsWithTheProcessThatHoldsIt) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  TestChild holder({"server/lease_holder", "export", server_->server().address(), "m"});
  ASSERT_EQ(holder.ReadLine(), "held");
  EXPECT_EQ(Exports(1), 1u);
  EXPECT_EQ(client_->Begin(BeginRequest("m", 2, Tensors(2))).status().code(), StatusCode::kResourceExhausted);
  holder.Kill();
  EXPECT_TRUE(WaitFor([&] { return Exports(1) == 0; }));
  EXPECT_TRUE(Push(2).ok());
}

TEST_F(ServiceExportTest, ALeaseEndsWithinTheKeepaliveOfAProcessThatIsStopped) {
  keepalive_time_ = absl::Seconds(1);
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  TestChild holder({"server/lease_holder", "export", server_->server().address(), "m"});
  ASSERT_EQ(holder.ReadLine(), "held");
  EXPECT_EQ(Exports(1), 1u);
  holder.Stop();
  EXPECT_TRUE(WaitFor([&] { return Exports(1) == 0; }));
  EXPECT_TRUE(Push(2).ok());
  // Once it runs again it learns of it.
  holder.Continue();
  EXPECT_EQ(holder.ReadLine().substr(0, 3), absl::StrCat(grpc::StatusCode::UNAVAILABLE, " "));
}

TEST_F(ServiceExportTest, AShutdownEndsLeasesAndSaysSo) {
  Start(1);
  ASSERT_TRUE(Push(1).ok());
  Lease lease(*client_, "m");
  ASSERT_TRUE(lease.held());
  server_->server().Shutdown(absl::Seconds(20));
  ExpectError(lease.AwaitEnd(), StatusCode::kUnavailable, {"shutting down"});
}

TEST_F(ServiceExportTest, AFailedDeviceEndsLeasesAndIsNamed) {
  Start(2);
  ASSERT_TRUE(Push(1).ok());
  Lease lease(*client_, "m");
  ASSERT_TRUE(lease.held());
  cuda_->SetRule([](absl::string_view call, uint64_t) { return call == "CopyToDevice!" ? kCudaIllegalAddress : 0; });
  EXPECT_FALSE(Push(2).ok());
  ExpectError(lease.AwaitEnd(), StatusCode::kInternal, {"cuda:0"});
}

TEST_F(ServiceExportTest, WhatIsNotHeldIsNotExported) {
  Start(1);
  ExpectError(Lease(*client_, "none").AwaitEnd(), StatusCode::kNotFound, {"no model 'none'"});
  ASSERT_TRUE(Push(1).ok());
  ExpectError(Lease(*client_, "m", 7).AwaitEnd(), StatusCode::kNotFound, {"does not hold version 7"});
  ASSERT_TRUE(client_->PushVersion("empty", 1, {}).ok());
  ExpectError(Lease(*client_, "empty").AwaitEnd(), StatusCode::kFailedPrecondition, {"has none"});
  EXPECT_EQ(client_->GetModel("empty")->versions(0).exports(), 0u);
}

TEST_F(ServiceExportTest, FilesAreOpenedInsteadOfExported) {
  for (const TestDevice& device : TestDevicesWithFiles()) {
    TestServer server(device.Options());
    const auto client = server.NewClient();
    ASSERT_TRUE(client->PushVersion("m", 1, VariedTensors(1)).ok());
    ExpectError(Lease(*client, "m").AwaitEnd(), StatusCode::kFailedPrecondition,
                {absl::StrCat(server.data_dir(), "/m/1/model.safetensors")});
  }
}

TEST_F(ServiceExportTest, AUnixSocketIsLocal) {
  // Sockets' paths are short: at most 107 bytes.
  std::string folder = "/tmp/weightstream-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  Start(1, absl::StrCat("unix:", folder, "/socket"));
  ASSERT_TRUE(Push(1).ok());
  EXPECT_TRUE(Lease(*client_, "m").held());
  server_.reset();
  std::filesystem::remove_all(folder);
}

// An address of this machine that is not loopback: to the server it is that of another host.
std::string AddressOfAnInterface() {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return "";
  std::string found;
  for (const ifaddrs* one = all; one != nullptr && found.empty(); one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    const uint32_t host = ntohl(reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr.s_addr);
    if (host >> 24 == IN_LOOPBACKNET) continue;
    found = absl::StrCat(host >> 24, ".", host >> 16 & 0xFF, ".", host >> 8 & 0xFF, ".", host & 0xFF);
  }
  freeifaddrs(all);
  return found;
}

TEST_F(ServiceExportTest, ACallFromARemoteAddressIsDenied) {
  const std::string host = AddressOfAnInterface();
  if (host.empty()) GTEST_SKIP() << "this machine has no address but loopback; local_peer_test has the rule itself";
  Start(1, absl::StrCat(host, ":0"));
  ASSERT_TRUE(Push(1).ok());
  ExpectError(Lease(*client_, "m").AwaitEnd(), StatusCode::kPermissionDenied,
              {"ExportTarget", host, "unix socket or loopback"});
  EXPECT_EQ(Exports(1), 0u);
  ForeignMemory memory(*cuda_, 4096);
  Registration registration(*client_, RegistrationOf("m", memory, {TargetOf("a", "U8", {10})}));
  EXPECT_FALSE(registration.taken());
  ExpectError(registration.AwaitEnd(), StatusCode::kPermissionDenied,
              {"RegisterTargets", host, "unix socket or loopback"});
  EXPECT_EQ(cuda_->open_handles(), 0u);
}

}  // namespace
}  // namespace weightstream
