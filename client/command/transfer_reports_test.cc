#include "absl/strings/match.h"
#include "client/command/push_report.h"
#include "client/command/verify_report.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;

PushResult TwoServers() {
  PushResult result;
  result.version = 12;
  result.total_bytes = 2 * kGib;
  result.tensors = 291;
  result.elapsed = absl::Milliseconds(2500);
  ServerOutcome good;
  good.server = "a:1";
  good.sent_bytes = kGib;
  good.resumed_bytes = kGib;
  good.retries = 1;
  good.path = "/shm/m/12/model.safetensors";
  good.begin_time = absl::Milliseconds(500);
  good.send_time = absl::Seconds(1);
  good.commit_time = absl::Milliseconds(500);
  result.servers.push_back(good);
  return result;
}

TEST(PushReportTest, ASuccessIsALineAServer) {
  const Report report = ReportPush("llama", TwoServers());
  EXPECT_TRUE(report.status.ok());
  EXPECT_EQ(report.text, "a:1: version 12, 2.0 GiB in 2.0s, 1.07 GB/s, resumed, 1.0 GiB were there already, 1 retry\n");
}

TEST(PushReportTest, JsonHasTheVersionTheSizesAndEachServersOutcome) {
  PushResult result = TwoServers();
  ServerOutcome bad;
  bad.server = "b:1";
  bad.status = absl::UnavailableError("connection refused");
  result.servers.push_back(bad);
  result.status = absl::UnavailableError("b:1: connection refused");
  const Report report = ReportPush("llama", result);
  EXPECT_EQ(report.status, result.status);
  EXPECT_TRUE(absl::StrContains(report.text, "b:1: UNAVAILABLE: connection refused\n")) << report.text;
  const Json& json = report.json;
  EXPECT_EQ(json["model"], "llama");
  EXPECT_EQ(json["version"], 12);
  EXPECT_EQ(json["total_bytes"], 2 * kGib);
  EXPECT_EQ(json["tensors"], 291);
  EXPECT_EQ(json["seconds"], 2.5);
  EXPECT_EQ(json["committed_servers"], 1);
  ASSERT_EQ(json["servers"].size(), 2u);
  EXPECT_EQ(json["servers"][0]["ok"], true);
  EXPECT_EQ(json["servers"][0]["path"], "/shm/m/12/model.safetensors");
  EXPECT_FALSE(json["servers"][0].contains("error"));
  EXPECT_EQ(json["servers"][1]["ok"], false);
  EXPECT_EQ(json["servers"][1]["error"]["code"], "UNAVAILABLE");
  EXPECT_EQ(json["servers"][1]["error"]["message"], "connection refused");
}

VerifyResult Compared(uint64_t tensors) {
  VerifyResult result;
  result.version = 3;
  result.total_bytes = 1024;
  result.tensors = tensors;
  return result;
}

TEST(VerifyReportTest, EqualBytesAreDone) {
  const ServerReport report = ReportVerify("a:1", "llama", Compared(2));
  EXPECT_TRUE(report.status.ok());
  EXPECT_EQ(report.text, "a:1: version 3, 2 tensors, 1.0 KiB: every checksum is equal\n");
  EXPECT_EQ(report.json["equal"], true);
}

TEST(VerifyReportTest, ADifferenceFailsAndIsNamed) {
  VerifyResult result = Compared(9);
  result.differences.push_back({"w", "missing on the server"});
  result.differing_tensors = 5;
  const ServerReport report = ReportVerify("a:1", "llama", result);
  EXPECT_EQ(report.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(report.text, "w: missing on the server\nand 4 more\n");
  EXPECT_EQ(report.json["equal"], false);
  EXPECT_EQ(report.json["differences"][0]["tensor"], "w");
}

}  // namespace
}  // namespace weightstream::command
