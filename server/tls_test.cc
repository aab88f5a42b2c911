// TLS of a whole server, with certificates that are replaced while it runs.
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "security/test_certificates.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

class TlsTest : public testing::Test {
 protected:
  TlsTest() { Install(pair_); }

  void Install(const TestPair& pair) {
    WriteTestFile(Path("cert"), pair.certificate_pem);
    WriteTestFile(Path("key"), pair.key_pem);
  }

  std::string Path(const std::string& name) const { return absl::StrCat(folder_, "/", name); }

  TestServerOptions Options() {
    TestServerOptions options;
    options.security.tls_cert = Path("cert");
    options.security.tls_key = Path("key");
    return options;
  }

  // The same, of clients with a certificate of this CA.
  TestServerOptions MutualOptions(const TestCa& client_ca) {
    WriteTestFile(Path("client-ca"), client_ca.certificate_pem());
    TestServerOptions options = Options();
    options.security.tls_client_ca = Path("client-ca");
    return options;
  }

  // A change is taken once two looks saw the same.
  static void LookTwice(const TestServer& server) {
    server.server().ReloadSecurity();
    server.server().ReloadSecurity();
  }

  // A new connection that trusts this CA and presents this certificate.
  static TestClient Client(const TestServer& server, const TestCa& ca, const TestPair& own = {},
                           const std::string& token = "") {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = ca.certificate_pem();
    options.pem_cert_chain = own.certificate_pem;
    options.pem_private_key = own.key_pem;
    return TestClient(server.server().address(), token, grpc::SslCredentials(options));
  }

  // Whether a new connection that trusts this CA gets an answer.
  static bool Answers(const TestServer& server, const TestCa& ca, const TestPair& own = {}) {
    return absl::IsNotFound(Client(server, ca, own).GetModel("nothing").status());
  }

  const std::string folder_ = MakeTestFolder();
  const TestCa ca_;
  const TestCa next_ca_{"next CA"};
  const TestPair pair_ = ca_.Sign("server", "DNS:localhost,IP:127.0.0.1");
  const TestPair next_ = next_ca_.Sign("server", "DNS:localhost,IP:127.0.0.1");
  const std::vector<TestTensor> tensors_ = VariedTensors(1);
};

TEST_F(TlsTest, TheWholeFlowRunsOverTlsAndPlaintextIsNotAnswered) {
  TestServer server(Options());
  TestClient client = Client(server, ca_);
  EXPECT_TRUE(client.PushVersion("m", 1, tensors_).ok());
  EXPECT_EQ(client.PullTensors("m").value(), DataOf(tensors_));
  EXPECT_FALSE(server.NewClient()->GetModel("m").ok());
  EXPECT_FALSE(Answers(server, next_ca_)) << "a client that trusts another CA does not talk to us";
}

TEST_F(TlsTest, WithAClientCaOnlyItsCertificatesConnect) {
  const TestCa client_ca("client CA");
  TestServer server(MutualOptions(client_ca));
  EXPECT_TRUE(Answers(server, ca_, client_ca.Sign("client", "")));
  EXPECT_FALSE(Answers(server, ca_)) << "without one";
  EXPECT_FALSE(Answers(server, ca_, ca_.Sign("client", ""))) << "of another CA";
  EXPECT_FALSE(Answers(server, ca_, client_ca.Sign("client", "", 0))) << "that has expired";
}

TEST_F(TlsTest, ASubjectOfAClientCertificateHasItsRole) {
  WriteTestFile(Path("tokens"),
                "push m subject:trainer.example\nadmin * subject:Ops Team\nread * token:reader-0123456789\n");
  TestServerOptions options = MutualOptions(ca_);
  options.security.auth_token_file = Path("tokens");
  TestServer server(options);
  TestClient trainer = Client(server, ca_, ca_.Sign("whoever", "DNS:trainer.example"));
  EXPECT_TRUE(trainer.PushVersion("m", 1, tensors_).ok());
  EXPECT_EQ(trainer.Rollback("m", 1).status().code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(trainer.Begin(BeginRequest("other", 1, tensors_)).status().code(), StatusCode::kPermissionDenied);
  EXPECT_TRUE(Client(server, ca_, ca_.Sign("Ops Team", "")).Rollback("m", 1).ok());
  const TestPair stranger = ca_.Sign("stranger", "DNS:stranger.example");
  EXPECT_EQ(Client(server, ca_, stranger).GetModel("m").status().code(), StatusCode::kUnauthenticated);
  EXPECT_TRUE(Client(server, ca_, stranger, "reader-0123456789").GetModel("m").ok());
}

TEST_F(TlsTest, APairThatIsReplacedOneFileAfterTheOtherIsTakenOnceItIsWhole) {
  TestServer server(Options());
  TestClient open = Client(server, ca_);
  const auto begun = open.Begin(BeginRequest("m", 1, tensors_));
  ASSERT_TRUE(begun.ok());
  WriteTestFile(Path("cert"), next_.certificate_pem);
  // Looked at in this state, however long it lasts: the pair from before serves.
  LookTwice(server);
  EXPECT_TRUE(Answers(server, ca_));
  EXPECT_FALSE(Answers(server, next_ca_));
  WriteTestFile(Path("key"), next_.key_pem);
  EXPECT_TRUE(WaitFor([&] { return Answers(server, next_ca_); })) << "nobody called for the reload";
  EXPECT_FALSE(Answers(server, ca_));
  // Who was connected stays so, in the middle of an update.
  EXPECT_TRUE(open.Push(ChunksOf(tensors_, begun->bucket_limit_bytes(), begun->update_id())).ok());
  EXPECT_TRUE(open.Commit("m", begun->update_id()).ok());
  EXPECT_EQ(open.PullTensors("m").value(), DataOf(tensors_));
}

TEST_F(TlsTest, AFolderThatIsSwappedAsKubernetesDoesIsTaken) {
  // FOLDER/..data -> FOLDER/..1, the files are links through ..data, and one rename replaces that.
  for (const auto& [name, pair] : {std::pair("..1", pair_), std::pair("..2", next_)}) {
    ASSERT_EQ(mkdir(Path(name).c_str(), 0700), 0);
    WriteTestFile(Path(absl::StrCat(name, "/cert")), pair.certificate_pem);
    WriteTestFile(Path(absl::StrCat(name, "/key")), pair.key_pem);
  }
  ASSERT_EQ(symlink("..1", Path("..data").c_str()), 0);
  TestServerOptions options = Options();
  for (const auto& [link, path] :
       {std::pair("tls.crt", &options.security.tls_cert), std::pair("tls.key", &options.security.tls_key)}) {
    *path = Path(link);
    const std::string to = absl::StrCat("..data/", path == &options.security.tls_cert ? "cert" : "key");
    ASSERT_EQ(symlink(to.c_str(), path->c_str()), 0);
  }
  TestServer server(options);
  EXPECT_TRUE(Answers(server, ca_));
  ASSERT_EQ(symlink("..2", Path("..data_tmp").c_str()), 0);
  ASSERT_EQ(rename(Path("..data_tmp").c_str(), Path("..data").c_str()), 0);
  EXPECT_TRUE(WaitFor([&] { return Answers(server, next_ca_); }));
  EXPECT_FALSE(Answers(server, ca_));
}

TEST_F(TlsTest, ABrokenFileChangesNothingAndTheNextSoundOneIsTaken) {
  TestServer server(Options());
  for (const std::string& broken : {std::string(), std::string("nonsense"), pair_.certificate_pem.substr(0, 100)}) {
    WriteTestFile(Path("cert"), broken);
    LookTwice(server);
    EXPECT_TRUE(Answers(server, ca_)) << broken;
  }
  ASSERT_EQ(unlink(Path("key").c_str()), 0);
  LookTwice(server);
  EXPECT_TRUE(Answers(server, ca_));
  Install(next_);
  LookTwice(server);
  EXPECT_TRUE(Answers(server, next_ca_));
}

TEST_F(TlsTest, AClientCaThatIsReplacedHoldsForNewConnections) {
  TestServer server(MutualOptions(ca_));
  const TestPair client = ca_.Sign("client", "");
  EXPECT_TRUE(Answers(server, ca_, client));
  WriteTestFile(Path("client-ca"), next_ca_.certificate_pem());
  LookTwice(server);
  EXPECT_FALSE(Answers(server, ca_, client));
  EXPECT_TRUE(Answers(server, ca_, next_ca_.Sign("client", "")));
}

TEST_F(TlsTest, AnOpenConnectionDoesNotOutliveItsCertificateForLong) {
  TestServerOptions options = MutualOptions(ca_);
  options.limits.connection_age = absl::Seconds(2);
  TestServer server(options);
  TestClient client = Client(server, ca_, ca_.Sign("client", ""));
  const auto begun = client.Begin(BeginRequest("m", 1, tensors_));
  ASSERT_TRUE(begun.ok()) << begun.status();
  const auto chunks = ChunksOf(tensors_, begun->bucket_limit_bytes(), begun->update_id());
  const auto context = NewContext();
  v1::PushResponse response;
  const auto open = client.stub().Push(context.get(), &response);
  ASSERT_TRUE(open->Write(chunks.front()));
  // The CA is one no more, and nobody closes the connection: it ends of itself.
  WriteTestFile(Path("client-ca"), next_ca_.certificate_pem());
  LookTwice(server);
  EXPECT_TRUE(WaitFor([&] { return absl::IsUnavailable(client.GetModel("m").status()); }));
  // Its push, which was under way, goes on all the same.
  for (size_t i = 1; i < chunks.size(); ++i) ASSERT_TRUE(open->Write(chunks[i])) << i;
  ASSERT_TRUE(open->WritesDone());
  const grpc::Status pushed = open->Finish();
  EXPECT_TRUE(pushed.ok()) << pushed.error_message();
  EXPECT_EQ(response.chunks(), chunks.size());
  TestClient next = Client(server, ca_, next_ca_.Sign("client", ""));
  EXPECT_TRUE(next.Commit("m", begun->update_id()).ok());
  EXPECT_EQ(next.PullTensors("m").value(), DataOf(tensors_));
}

TEST_F(TlsTest, CallsGoOnOverTheAgeOfTheirConnections) {
  TestServerOptions options = MutualOptions(ca_);
  options.limits.connection_age = absl::Milliseconds(50);
  TestServer server(options);
  TestClient client = Client(server, ca_, ca_.Sign("client", ""));
  // Of some hundred calls each on its own, many meet a connection at its end.
  const absl::Time end = absl::Now() + absl::Seconds(3);
  uint64_t version = 0;
  while (absl::Now() < end) {
    ++version;
    absl::Status pushed;
    // One that begins in the very moment is refused by gRPC before the server hears of it, and may try again.
    do {
      pushed = client.PushVersion("m", version, tensors_);
    } while (absl::IsUnavailable(pushed) && absl::StrContains(pushed.message(), "GOAWAY received"));
    ASSERT_TRUE(pushed.ok()) << version << ": " << pushed;
  }
  EXPECT_EQ(client.PullTensors("m").value(), DataOf(tensors_));
}

TEST_F(TlsTest, FilesThatAreNotSoundAreNamedAtTheStart) {
  const auto start = [&] {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.data_dir = MakeTestFolder();
    options.security = Options().security;
    return Server::Start(options, NewHostDevice()).status();
  };
  WriteTestFile(Path("key"), next_.key_pem);
  ExpectError(start(), StatusCode::kFailedPrecondition, {"--tls-key=" + Path("key"), "is not the key", "--tls-cert="});
  ASSERT_EQ(unlink(Path("key").c_str()), 0);
  ExpectError(start(), StatusCode::kFailedPrecondition,
              {"--tls-key=" + Path("key"), "No such file", "give a PEM file"});
}

}  // namespace
}  // namespace weightstream
