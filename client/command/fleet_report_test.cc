#include "client/command/fleet_report.h"

#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

ServerReport Good(const std::string& server) {
  return {.server = server, .json = {{"version", 7}}, .text = server + ": version 7 is current\n"};
}

ServerReport Bad(const std::string& server) {
  return {.server = server,
          .status = absl::UnavailableError(server + ": failed to connect\x1b[2J"),
          .json = {{"version", 7}},
          .text = "tensor.1: bytes differ\n"};
}

TEST(FleetReportTest, OfOneServerSaysWhatThereIsToSayOfIt) {
  const Report report = ReportFleet({Good("a:1")});
  EXPECT_TRUE(report.status.ok());
  EXPECT_EQ(report.text, "a:1: version 7 is current\n");
  EXPECT_EQ(report.json.dump(), R"({"server":"a:1","version":7,"servers":[{"server":"a:1","ok":true,"version":7}]})");
}

TEST(FleetReportTest, OfOneServerThatFailedTheErrorIsTheCommandsOwn) {
  const Report report = ReportFleet({Bad("a:1")});
  EXPECT_EQ(report.status.message(), "a:1: failed to connect\x1b[2J");
  EXPECT_EQ(report.text, "tensor.1: bytes differ\n");
  EXPECT_EQ(report.json["servers"][0]["error"]["code"], "UNAVAILABLE");
}

TEST(FleetReportTest, OfSeveralNamesTheOutcomeOfEach) {
  const Report report = ReportFleet({Good("a:1"), Bad("b:2"), Good("c:3")});
  EXPECT_EQ(report.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(report.text,
            "a:1: version 7 is current\n"
            "b:2: UNAVAILABLE: failed to connect\\x1b[2J\n"
            "tensor.1: bytes differ\n"
            "c:3: version 7 is current\n");
  EXPECT_FALSE(report.json.contains("version"));
  ASSERT_EQ(report.json["servers"].size(), 3u);
  EXPECT_EQ(report.json["servers"][1]["ok"], false);
  EXPECT_EQ(report.json["servers"][2]["ok"], true);
}

TEST(FleetReportTest, AFailureBeforeAnyServerHasNoServers) {
  const Report report = FailedEarly(absl::NotFoundError("no such name"));
  EXPECT_EQ(report.json.dump(), R"({"servers":[]})");
  EXPECT_EQ(report.status.message(), "no such name");
}

}  // namespace
}  // namespace weightstream::command
