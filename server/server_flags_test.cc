#include "server/server_flags.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

absl::StatusOr<CommandLine> Parse(const std::vector<std::string>& arguments) {
  return ParseCommandLine(ServerCommand(), arguments);
}

TEST(ServerFlagsTest, WithoutFlagsTheDefaultsOfTheOptionsHold) {
  const absl::StatusOr<CommandLine> line = Parse({});
  ASSERT_TRUE(line.ok()) << line.status();
  const absl::StatusOr<ServerOptions> options = OptionsFrom(*line);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->listen, ServerOptions().listen);
  EXPECT_EQ(options->data_dir, ServerOptions().data_dir);
  EXPECT_EQ(options->limits.bucket_bytes, Limits().bucket_bytes);
  EXPECT_EQ(options->limits.model_bytes, 0u);
  EXPECT_EQ(options->limits.threads, Limits().threads);
  EXPECT_EQ(DeviceFrom(*line).value()->name(), "host");
}

TEST(ServerFlagsTest, EachFlagSetsItsLimit) {
  const absl::StatusOr<CommandLine> line = Parse({"--bucket-mib=0.25",
                                                  "--staging-mib=8",
                                                  "--keep-versions=3",
                                                  "--max-model-gib=1.5",
                                                  "--max-models=7",
                                                  "--max-manifest-tensors=9",
                                                  "--max-manifest-mib=2",
                                                  "--idle-update-seconds=1.5",
                                                  "--update-seconds=7",
                                                  "--least-kib-per-second=0.5",
                                                  "--drain-seconds=2",
                                                  "--keepalive-seconds=3",
                                                  "--max-threads=11",
                                                  "--max-updates=13",
                                                  "--max-connections=17",
                                                  "--max-peer-connections=5",
                                                  "--max-peer-streams=6",
                                                  "--max-peer-mib-per-second=0.5",
                                                  "--handshake-seconds=4",
                                                  "--idle-connection-seconds=60",
                                                  "--tls-cert=c",
                                                  "--tls-key=k",
                                                  "--tls-client-ca=a",
                                                  "--max-connection-age-seconds=90",
                                                  "--silent-stream-seconds=2.5",
                                                  "--listen=127.0.0.1:0",
                                                  "--data-dir=/x",
                                                  "--device=host-staged"});
  ASSERT_TRUE(line.ok()) << line.status();
  const absl::StatusOr<ServerOptions> options = OptionsFrom(*line);
  ASSERT_TRUE(options.ok()) << options.status();
  const Limits& limits = options->limits;
  EXPECT_EQ(limits.connection_age, absl::Seconds(90));
  EXPECT_EQ(limits.bucket_bytes, 256u << 10);
  EXPECT_EQ(limits.staging_bytes, 8u << 20);
  EXPECT_EQ(limits.keep_versions, 3u);
  EXPECT_EQ(limits.model_bytes, uint64_t{3} << 29);
  EXPECT_EQ(limits.models, 7u);
  EXPECT_EQ(limits.manifest_tensors, 9u);
  EXPECT_EQ(limits.manifest_bytes, 2u << 20);
  EXPECT_EQ(limits.idle_update, absl::Milliseconds(1500));
  EXPECT_EQ(limits.update_time, absl::Seconds(7));
  EXPECT_EQ(limits.least_bytes_per_second, 512u);
  EXPECT_EQ(limits.drain, absl::Seconds(2));
  EXPECT_EQ(limits.keepalive_time, absl::Seconds(3));
  EXPECT_EQ(limits.keepalive_timeout, absl::Seconds(3));
  EXPECT_EQ(limits.threads, 11);
  EXPECT_EQ(limits.updates, 13u);
  EXPECT_EQ(limits.connections, 17u);
  EXPECT_EQ(limits.peer_connections, 5u);
  EXPECT_EQ(limits.peer_streams, 6);
  EXPECT_EQ(limits.peer_bytes_per_second, 512u << 10);
  EXPECT_EQ(limits.handshake, absl::Seconds(4));
  EXPECT_EQ(limits.idle_connection, absl::Seconds(60));
  EXPECT_EQ(limits.silent_call, absl::Milliseconds(2500));
  EXPECT_EQ(options->listen, "127.0.0.1:0");
  EXPECT_EQ(options->data_dir, "/x");
  EXPECT_TRUE(DeviceFrom(*line).value()->needs_staging());
}

TEST(ServerFlagsTest, BadValuesAreRefusedWithTheFlagNamed) {
  for (const std::string flag :
       {"--log-level=loud", "--log-format=xml", "--keep-versions=0", "--bucket-mib=0", "--max-threads=0",
        "--listen=", "--bucket_mib=4", "--drain-seconds=-1", "--max-updates=0", "--max-peer-streams=0",
        "--max-connections=0", "--max-peer-mib-per-second=0", "--least-kib-per-second=0", "--update-seconds=0"}) {
    const absl::StatusOr<CommandLine> line = Parse({flag});
    ASSERT_FALSE(line.ok()) << flag;
    EXPECT_TRUE(absl::StrContains(line.status().message(), flag.substr(0, flag.find('=')))) << line.status();
  }
}

TEST(ServerFlagsTest, ADeviceMayHaveMemoryAlone) {
  const auto memory = DeviceFrom(*Parse({"--device=host-memory:3"})).value();
  EXPECT_FALSE(memory->keeps_files());
  EXPECT_TRUE(memory->needs_staging());
  EXPECT_TRUE(memory->CreateTarget({.bytes = 3 << 20}).ok());
  EXPECT_FALSE(memory->CreateTarget({.bytes = (3 << 20) + 1}).ok());
  EXPECT_TRUE(DeviceFrom(*Parse({"--device=host"})).value()->keeps_files());
}

TEST(ServerFlagsTest, ADeviceThatIsNotHereIsNamed) {
  // More than any machine has: whatever this one lacks, it is said of this device.
  const absl::Status none = DeviceFrom(*Parse({"--device=cuda:1000"})).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kFailedPrecondition) << none;
  EXPECT_TRUE(absl::StrContains(none.message(), "--device: cuda:1000")) << none;
  for (const std::string unknown : {"tape", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:0x0", "cudax0", "host-memory",
                                    "host-memory:0", "host-memory:x"}) {
    const absl::Status refused = DeviceFrom(*Parse({"--device=" + unknown})).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), unknown)) << refused;
  }
}

TEST(ServerFlagsTest, TheHelpNamesEveryFlag) {
  const std::string help = HelpText(ServerCommand());
  for (const FlagSpec& flag : ServerCommand().flags) EXPECT_TRUE(absl::StrContains(help, "--" + flag.name)) << help;
}

}  // namespace
}  // namespace weightstream
