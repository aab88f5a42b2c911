#include "server/server_security.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "security/test_certificates.h"
#include "server/test_client.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

// A server that has these credentials and nothing to call. Nobody looks at its files but the test.
class Listener {
 public:
  explicit Listener(ServerSecurity& security) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", security.credentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
  }

  // Whether it answers a new connection that presents this certificate.
  bool Answers(const TestCa& ca, const TestPair& own) const {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = ca.certificate_pem();
    options.pem_cert_chain = own.certificate_pem;
    options.pem_private_key = own.key_pem;
    TestClient client(absl::StrCat("127.0.0.1:", port_), "", grpc::SslCredentials(options));
    return absl::IsUnimplemented(client.GetModel("any").status());
  }

 private:
  v1::WeightStream::Service service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST(ReloadTest, CasThatAreBeingWrittenShutNobodyOut) {
  const std::string folder = MakeTestFolder();
  const TestCa ca;
  const TestCa second("second CA");
  const TestCa third("third CA");
  const TestPair pair = ca.Sign("server", "DNS:localhost,IP:127.0.0.1");
  SecurityOptions options;
  options.tls_cert = absl::StrCat(folder, "/cert");
  options.tls_key = absl::StrCat(folder, "/key");
  options.tls_client_ca = absl::StrCat(folder, "/client-ca");
  WriteTestFile(options.tls_cert, pair.certificate_pem);
  WriteTestFile(options.tls_key, pair.key_pem);
  const std::string both = ca.certificate_pem() + second.certificate_pem();
  WriteTestFile(options.tls_client_ca, both);
  const auto security = ServerSecurity::Load("127.0.0.1:0", options);
  ASSERT_TRUE(security.ok()) << security.status();
  const Listener listener(**security);
  const TestPair of_second = second.Sign("client", "");
  EXPECT_TRUE(listener.Answers(ca, of_second));
  // Between two of them, where what is there already parses.
  WriteTestFile(options.tls_client_ca, ca.certificate_pem());
  (*security)->Reload();
  EXPECT_TRUE(listener.Answers(ca, of_second)) << "a look at a file that is short for a moment";
  const TestPair of_third = third.Sign("client", "");
  WriteTestFile(options.tls_client_ca, both + third.certificate_pem());
  (*security)->Reload();
  EXPECT_FALSE(listener.Answers(ca, of_third)) << "seen once";
  (*security)->Reload();
  EXPECT_TRUE(listener.Answers(ca, of_third)) << "seen twice";
  EXPECT_TRUE(listener.Answers(ca, of_second));
}

}  // namespace
}  // namespace weightstream
