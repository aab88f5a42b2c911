#include "server/commit_hook_flags.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

const CurrentVersionEvent kEvent{"policy", 7, "/data/policy/7", "/data/policy/7/model.safetensors"};

absl::StatusOr<CommitHookOptions> Parse(const std::vector<std::string>& arguments) {
  static const CommandSpec& spec = *new CommandSpec{.program = "test", .flags = CommitHookFlags()};
  const absl::StatusOr<CommandLine> line = ParseCommandLine(spec, arguments);
  if (!line.ok()) return line.status();
  return CommitHookOptionsFrom(*line);
}

// "HOST PORT", then each path and body.
std::string Requests(const std::vector<std::string>& arguments) {
  const absl::StatusOr<CommitHookOptions> options = Parse(arguments);
  if (!options.ok()) return options.status().ToString();
  std::string text = options->host + " " + std::to_string(options->port);
  for (const CommitHookRequest& request : options->requests) {
    text += "\n" + request.path + " " + request.body.Fill(kEvent);
  }
  return text;
}

TEST(CommitHookFlagsTest, WithoutFlagsNobodyIsTold) { EXPECT_FALSE(Parse({}).value().enabled()); }

TEST(CommitHookFlagsTest, PresetsAreTheRequestsThatTheServersDocument) {
  EXPECT_EQ(Requests({"--on-commit=http://127.0.0.1:30000", "--on-commit-preset=sglang"}),
            "127.0.0.1 30000\n"
            R"(/update_weights_from_disk {"model_path":"/data/policy/7","weight_version":"7"})");
  EXPECT_EQ(Requests({"--on-commit=http://localhost:8000/", "--on-commit-preset=vllm"}),
            "localhost 8000\n"
            R"(/collective_rpc {"method":"reload_weights","kwargs":{"weights_path":"/data/policy/7"}})"
            "\n/reset_prefix_cache ");
}

TEST(CommitHookFlagsTest, AUrlMayLeaveOutPortAndPathAndBody) {
  EXPECT_EQ(
      Requests({"--on-commit=http://host"}),
      "host 80\n"
      R"(/ {"model":"policy","version":"7","path":"/data/policy/7/model.safetensors","folder":"/data/policy/7"})");
  EXPECT_EQ(Requests({"--on-commit=http://[::1]:81/a/b?c=d", "--on-commit-body={}"}), "::1 81\n/a/b?c=d {}");
  EXPECT_EQ(Requests({"--on-commit=http://[::1]?c", "--on-commit-body={}"}), "::1 80\n/?c {}");
}

TEST(CommitHookFlagsTest, AHookMayBeForOneModel) {
  EXPECT_TRUE(Parse({"--on-commit-exec=/bin/true"})->tells_of("draft"));
  const auto options = Parse({"--on-commit-exec=/bin/true", "--on-commit-model=policy"});
  EXPECT_TRUE(options->tells_of("policy"));
  EXPECT_FALSE(options->tells_of("draft"));
}

TEST(CommitHookFlagsTest, WhichRequestsNameFilesIsKnown) {
  const std::string url = "--on-commit=http://host";
  EXPECT_TRUE(Parse({url})->names_files());
  EXPECT_TRUE(Parse({url, "--on-commit-preset=vllm"})->names_files());
  EXPECT_TRUE(Parse({url, R"(--on-commit-body={"a": ["in {folder}"]})"})->names_files());
  EXPECT_FALSE(Parse({url, R"(--on-commit-body={"a": "{model} {version}", "path": "folder"})"})->names_files());
  EXPECT_FALSE(Parse({"--on-commit-exec=/bin/true"})->names_files());
}

TEST(CommitHookFlagsTest, LimitsAreTaken) {
  const absl::StatusOr<CommitHookOptions> options =
      Parse({"--on-commit-exec=/bin/true", "--on-commit-timeout-seconds=0.5", "--on-commit-attempts=3"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->program, "/bin/true");
  EXPECT_EQ(options->timeout, absl::Milliseconds(500));
  EXPECT_EQ(options->attempts, 3);
}

TEST(CommitHookFlagsTest, WhatCannotWorkIsRefusedWithTheReason) {
  const std::string url = "--on-commit=http://127.0.0.1:1";
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--on-commit=https://host/x"}, "only http is spoken"},
      {{"--on-commit=127.0.0.1:30000"}, "does not begin with http://"},
      {{"--on-commit=http://:80/"}, "names no host"},
      {{"--on-commit=http:///x"}, "names no host"},
      {{"--on-commit=http://[::1/x"}, "names no host"},
      {{"--on-commit=http://host:0/"}, "has a port"},
      {{"--on-commit=http://host:65536/"}, "has a port"},
      {{"--on-commit=http://host:x/"}, "has a port"},
      {{"--on-commit=http://user@host/"}, "do not belong there"},
      {{"--on-commit=http://host/a b"}, "do not belong there"},
      {{"--on-commit=http://host/x", "--on-commit-preset=sglang"}, "leave it out"},
      {{url, "--on-commit-preset=triton"}, "none of sglang, vllm"},
      {{url, "--on-commit-body={\"a\": \"{file}\"}"}, "has {file}"},
      {{url, "--on-commit-body={"}, "is no JSON object"},
      {{"--on-commit-exec=true"}, "is no path"},
      {{"--on-commit-exec=/nonexistent"}, "is not there"},
      {{"--on-commit-attempts=3"}, "is of no use"},
      {{"--on-commit-model=policy"}, "is of no use"},
      {{"--on-commit-exec=/bin/true", "--on-commit-model=a/b"}, "on-commit-model"},
      {{"--on-commit-timeout-seconds=3"}, "is of no use"},
  };
  for (const auto& [arguments, words] : cases) {
    const absl::Status status = Parse(arguments).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << arguments[0];
    EXPECT_TRUE(absl::StrContains(status.message(), words)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "--on-commit")) << status;
  }
}

}  // namespace
}  // namespace weightstream
