// What a scrape tells of a server at work.
#include <httplib.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/test_server.h"
#include "server/test_update.h"

namespace weightstream {
namespace {

std::string ScrapeOf(const TestServer& server) {
  httplib::Client client("http://" + server.server().metrics_address());
  // So long that a busy machine is not mistaken for a held endpoint.
  client.set_read_timeout(60);
  const httplib::Result result = client.Get("/metrics");
  return result && result->status == 200 ? result->body : "no scrape";
}

class ServiceMetricsTest : public testing::Test {
 protected:
  static TestServerOptions Options() {
    TestServerOptions options;
    options.metrics_listen = "127.0.0.1:0";
    return options;
  }

  std::string Scrape() const { return ScrapeOf(server_); }

  void ExpectLines(std::initializer_list<const char*> lines) {
    const std::string scrape = Scrape();
    for (const char* line : lines) {
      EXPECT_TRUE(absl::StrContains(scrape, absl::StrCat("\n", line, "\n"))) << line << " is not in\n" << scrape;
    }
  }

  TestServer server_{Options()};
  std::unique_ptr<TestClient> client_ = server_.NewClient();
};

TEST_F(ServiceMetricsTest, CountsBytesChunksAndUpdatesByOutcome) {
  const std::vector<TestTensor> tensors = {MakeTensor("w", DType::kU8, {2500}, 1)};
  ASSERT_TRUE(client_->PushVersion("m", 1, tensors).ok());
  ASSERT_TRUE(client_->PushVersion("m", 2, tensors).ok());
  const auto begun = client_->Begin(BeginRequest("m", 3, tensors));
  ASSERT_TRUE(begun.ok());
  ASSERT_TRUE(client_->Begin(BeginRequest("m", 4, tensors)).ok()) << "supersedes 3";
  ASSERT_TRUE(client_->PullTensors("m").ok());
  ExpectLines({"weightstream_received_bytes_total 5000", "weightstream_received_chunks_total 6",
               "weightstream_sent_bytes_total 2500", R"(weightstream_updates_total{outcome="committed"} 2)",
               R"(weightstream_updates_total{outcome="superseded"} 1)",
               R"(weightstream_updates_total{outcome="aborted"} 0)",
               R"(weightstream_update_phase_seconds_count{phase="begin"} 4)",
               R"(weightstream_update_phase_seconds_count{phase="receive"} 2)",
               R"(weightstream_update_phase_seconds_count{phase="verify"} 2)",
               R"(weightstream_update_phase_seconds_count{phase="commit"} 2)",
               R"(weightstream_calls_total{code="OK",method="CommitUpdate"} 2)"});
}

TEST_F(ServiceMetricsTest, CountsErrorsByMethodAndCode) {
  EXPECT_FALSE(client_->Commit("nobody", "x").ok());
  EXPECT_FALSE(client_->Push({ChunkOf(MakeTensor("w", DType::kU8, {1}, 1), 0, 1, "no such update")}).ok());
  ExpectLines({R"(weightstream_calls_total{code="NOT_FOUND",method="CommitUpdate"} 1)",
               R"(weightstream_calls_total{code="NOT_FOUND",method="Push"} 1)"});
}

TEST_F(ServiceMetricsTest, TellsPerModelWhatIsHeldAndHowFarAnUpdateIs) {
  const std::vector<TestTensor> tensors = {MakeTensor("w", DType::kU8, {2500}, 1)};
  ASSERT_TRUE(client_->PushVersion("m", 7, tensors).ok());
  const auto begun = client_->Begin(BeginRequest("m", 8, tensors));
  ASSERT_TRUE(begun.ok());
  ASSERT_TRUE(client_->Push({ChunkOf(tensors[0], 0, 1000, begun->update_id())}).ok());
  ExpectLines({R"(weightstream_model_versions{model="m"} 1)", R"(weightstream_model_current_version{model="m"} 7)",
               R"(weightstream_model_held_bytes{model="m"} 2500)",
               R"(weightstream_update_expected_bytes{model="m"} 2500)",
               R"(weightstream_update_landed_bytes{model="m"} 1000)"});
  EXPECT_TRUE(absl::StrContains(Scrape(), R"(weightstream_model_current_version_age_seconds{model="m"} )"));
  ASSERT_TRUE(client_->Abort("m", begun->update_id(), "enough").ok());
  EXPECT_FALSE(absl::StrContains(Scrape(), "weightstream_update_landed_bytes{"));
  ExpectLines({R"(weightstream_updates_total{outcome="aborted"} 1)"});
}

TEST_F(ServiceMetricsTest, TellsOfTheProcess) {
  const std::string scrape = Scrape();
  for (const char* name : {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
                           "process_max_fds", "process_start_time_seconds"}) {
    EXPECT_TRUE(absl::StrContains(scrape, absl::StrCat("\n", name, " "))) << name;
  }
}

TEST(StagedMetrics, TellsOfTheStagingRing) {
  TestServerOptions options;
  options.metrics_listen = "127.0.0.1:0";
  options.device.device_like = true;
  options.limits.staging_bytes = 4096;
  TestServer server(options);
  ASSERT_TRUE(server.NewClient()->PushVersion("m", 1, VariedTensors(1)).ok());
  // A copy is done for the push before it has given its slot back.
  EXPECT_TRUE(WaitFor([&] { return absl::StrContains(ScrapeOf(server), "\nweightstream_staging_slots_in_use 0\n"); }));
  const std::string body = ScrapeOf(server);
  EXPECT_TRUE(absl::StrContains(body, "\nweightstream_staging_slots 4\n")) << body;
  EXPECT_TRUE(absl::StrContains(body, "\nweightstream_staging_wait_seconds_total ")) << body;
}

}  // namespace
}  // namespace weightstream
