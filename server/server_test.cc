// Start and shutdown of a whole server.
#include "server/server.h"

#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

absl::Status StartStatus(const std::string& listen, const std::string& data_dir) {
  ServerOptions options;
  options.listen = listen;
  options.data_dir = data_dir;
  return Server::Start(options, NewHostDevice()).status();
}

TEST(ServerStartTest, APortInUseIsNamedWithItsRemedy) {
  TestServer first;
  ExpectError(StartStatus(first.server().address(), MakeTestFolder()), StatusCode::kAlreadyExists,
              {first.server().address(), "in use", "--listen"});
  EXPECT_TRUE(first.NewClient()->PushVersion("m", 1, VariedTensors(1)).ok()) << "the first one goes on";
}

TEST(ServerStartTest, ADataDirectoryInUseIsNamedWithItsRemedy) {
  TestServer first;
  ExpectError(StartStatus("127.0.0.1:0", first.data_dir()), StatusCode::kFailedPrecondition,
              {first.data_dir(), "in use by another weightstream-server", "--data-dir"});
}

TEST(ServerStartTest, ADataDirectoryThatCannotBeMadeIsNamedWithItsRemedy) {
  const std::string file = absl::StrCat(MakeTestFolder(), "/file");
  WriteTestFile(file, "in the way");
  const absl::Status status = StartStatus("127.0.0.1:0", absl::StrCat(file, "/data"));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr(file), testing::HasSubstr("--data-dir")));
}

TEST(ServerStartTest, ACommitHookThatNamesAFileIsRefusedWhereThereIsNone) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.on_commit.requests.push_back({"/", CommitHookBody::Parse(R"({"load": "{path}"})").value()});
  const auto start = [&] {
    return Server::Start(options, NewHostDevice({.device_like = true, .memory = std::make_shared<HostRoom>(1000)}));
  };
  ExpectError(start().status(), StatusCode::kInvalidArgument, {"host-memory", "{path}", "--on-commit-body"});
  options.on_commit.requests[0].body = CommitHookBody::Parse(R"({"load": "{version}"})").value();
  EXPECT_TRUE(start().ok());
}

TEST(ServerStartTest, AddressesThatAreNoneAreRefused) {
  for (const char* address :
       {"", "nonsense", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:http!", "127.0.0.1:", "unix:"}) {
    const absl::Status status = StartStatus(address, MakeTestFolder());
    EXPECT_FALSE(status.ok()) << address;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("--listen")) << address;
  }
  // An address of a network for documentation, which no machine has (RFC 5737).
  ServerOptions options;
  options.listen = "192.0.2.1:0";
  options.data_dir = MakeTestFolder();
  options.security.allow_plaintext = true;
  const absl::Status status = Server::Start(options, NewHostDevice()).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("192.0.2.1"), testing::HasSubstr("--listen")));
}

TEST(ServerStartTest, PlaintextIsNotServedToOtherHostsUnlessItIsAllowed) {
  for (const char* address : {"0.0.0.0:0", "[::]:0"}) {
    const std::string data_dir = absl::StrCat(MakeTestFolder(), "/data");
    ExpectError(StartStatus(address, data_dir), StatusCode::kInvalidArgument,
                {address, "--tls-cert and --tls-key", "--allow-plaintext"});
    EXPECT_NE(access(data_dir.c_str(), F_OK), 0) << "and nothing was done before";
  }
  TestServerOptions options;
  options.listen = "0.0.0.0:0";
  options.security.allow_plaintext = true;
  const TestServer server(options);
  EXPECT_TRUE(server.NewClient()->PushVersion("m", 1, VariedTensors(1)).ok());
}

TEST(ServerStartTest, AFailedStartLeavesTheDataDirectoryFree) {
  TestServer first;
  const std::string data_dir = MakeTestFolder();
  EXPECT_FALSE(StartStatus(first.server().address(), data_dir).ok());
  EXPECT_TRUE(StartStatus("127.0.0.1:0", data_dir).ok());
}

TEST(ServerStartTest, AUnixSocketCarriesTheWholeFlow) {
  TestServerOptions options;
  // Sockets' paths are short: at most 107 bytes.
  std::string folder = "/tmp/ws-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  options.listen = absl::StrCat("unix:", folder, "/socket");
  {
    TestServer server(options);
    EXPECT_EQ(server.server().address(), options.listen);
    struct stat info {};
    ASSERT_EQ(stat(absl::StrCat(folder, "/socket").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0660u) << "the owner and the group, nobody else";
    const auto client = server.NewClient();
    EXPECT_TRUE(client->PushVersion("m", 1, VariedTensors(1)).ok());
    EXPECT_EQ(client->PullTensors("m").value(), DataOf(VariedTensors(1)));
    ExpectError(StartStatus(options.listen, MakeTestFolder()), StatusCode::kAlreadyExists,
                {options.listen, "in use", "--listen"});
    EXPECT_TRUE(server.NewClient()->GetModel("m").ok()) << "nobody took its socket away";
  }
  EXPECT_TRUE(NamesIn(folder).empty()) << "the socket goes with its server";
  ASSERT_EQ(rmdir(folder.c_str()), 0);
  ExpectError(StartStatus(absl::StrCat("unix:/", std::string(200, 's')), MakeTestFolder()),
              StatusCode::kInvalidArgument, {"longer than 107", "--listen"});
}

class ServerShutdownTest : public testing::Test {
 protected:
  TestServer server_;
  const std::unique_ptr<TestClient> client_ = server_.NewClient();
  const std::vector<TestTensor> tensors_ = {MakeTensor("t", DType::kU8, {2000}, 1)};
};

TEST_F(ServerShutdownTest, UpdatesInFlightMayFinishAndNoneBegins) {
  const auto begun = client_->Begin(BeginRequest("m", 1, tensors_));
  ASSERT_TRUE(begun.ok());
  std::thread stopper([&] { server_.server().Shutdown(absl::Seconds(20)); });
  absl::Status refused;
  EXPECT_TRUE(WaitFor([&] {
    refused = client_->Begin(BeginRequest("other", 1, tensors_)).status();
    return !refused.ok();
  }));
  ExpectError(refused, StatusCode::kUnavailable, {"shutting down"});
  EXPECT_TRUE(client_->Push(ChunksOf(tensors_, 1000, begun->update_id())).ok());
  // Those that began before the shutdown was noticed hold it up as well.
  EXPECT_TRUE(client_->Commit("m", begun->update_id()).ok());
  if (client_->GetModel("other").ok()) {
    const auto other = client_->GetModel("other");
    if (other.ok()) static_cast<void>(client_->Abort("other", other->updates(0).update_id(), "done"));
  }
  stopper.join();
  server_.Restart();
  EXPECT_EQ(server_.NewClient()->PullTensors("m").value(), DataOf(tensors_));
}

TEST_F(ServerShutdownTest, AtItsDeadlineTheRestIsAbortedAndToldSo) {
  const auto begun = client_->Begin(BeginRequest("m", 1, tensors_));
  ASSERT_TRUE(begun.ok());
  const auto context = NewContext();
  v1::PushResponse response;
  const auto writer = client_->stub().Push(context.get(), &response);
  ASSERT_TRUE(writer->Write(ChunkOf(tensors_[0], 0, 100, begun->update_id())));
  EXPECT_TRUE(WaitFor([&] { return client_->GetModel("m")->updates(0).landed_bytes() == 100; }));
  std::thread stopper([&] { server_.server().Shutdown(absl::Milliseconds(50)); });
  const grpc::Status status = writer->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED) << status.error_message();
  EXPECT_THAT(status.error_message(), testing::HasSubstr("shutting down"));
  stopper.join();
  EXPECT_TRUE(NamesIn(absl::StrCat(server_.data_dir(), "/m")).empty()) << "no partial file is left";
}

TEST_F(ServerShutdownTest, IsIdempotentAndQuickWhereNothingIsInFlight) {
  ASSERT_TRUE(client_->PushVersion("m", 1, tensors_).ok());
  const absl::Time start = absl::Now();
  server_.server().Shutdown(absl::Hours(1));
  server_.server().Shutdown(absl::Hours(1));
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
  EXPECT_EQ(client_->GetModel("m").status().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace weightstream
