// The binary as a process: help, usage errors, exit codes, and what goes to which stream.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace weightstream::command {
namespace {

constexpr char kBinary[] = "client/weightstream";
const std::vector<std::string> kCommands = {"push", "status", "watch", "pull", "verify", "rollback"};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// A child whose output goes to two files.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments, const std::string& out_path = "")
      : out_path_(out_path.empty() ? Temporary("out") : out_path), err_path_(Temporary("err")) {
    arguments.insert(arguments.begin(), kBinary);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ != 0) return;
    Redirect(out_path_, STDOUT_FILENO);
    Redirect(err_path_, STDERR_FILENO);
    execv(kBinary, argv.data());
    _exit(127);
  }
  ~Process() {
    if (pid_ > 0) Wait();
  }

  // The exit code, or 128 and the signal's number.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void Signal(int signal) const { kill(pid_, signal); }

  std::string out() const { return ReadFile(out_path_); }
  std::string err() const { return ReadFile(err_path_); }

  bool Says(absl::string_view part) const {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (!absl::StrContains(out(), part)) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(5));  // lint-allow(no-sleep): the pause of a poll with a deadline.
    }
    return true;
  }

 private:
  static std::string Temporary(const std::string& name) {
    static int number = 0;
    return absl::StrCat(testing::TempDir(), "/", name, ++number);
  }
  static void Redirect(const std::string& path, int fd) {
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, fd);
  }

  const std::string out_path_, err_path_;
  pid_t pid_ = 0;
};

TEST(ProcessTest, HelpIsOnStdoutAndDone) {
  Process process({"--help"});
  EXPECT_EQ(process.Wait(), 0);
  for (const std::string& command : kCommands) {
    EXPECT_TRUE(absl::StrContains(process.out(), absl::StrCat("\n  ", command, " "))) << process.out();
  }
  EXPECT_EQ(process.err(), "");
}

TEST(ProcessTest, EveryCommandHasHelpWithItsOwnFlagsAnExampleAndExitCodes) {
  for (const std::string& command : kCommands) {
    Process process({command, "--help"});
    EXPECT_EQ(process.Wait(), 0);
    const std::string help = process.out();
    for (const std::string& part : {absl::StrCat("Usage: weightstream ", command), std::string("--json\n"),
                                    absl::StrCat("  weightstream ", command, " "), std::string("Exit codes:\n  0 ")}) {
      EXPECT_TRUE(absl::StrContains(help, part)) << part << "\nin\n" << help;
    }
    EXPECT_EQ(absl::StrContains(help, "--allow-partial"), command == "push" || command == "rollback") << help;
    // Wherever servers are named they may be a fleet.
    EXPECT_TRUE(absl::StrContains(help, "dns:///NAME:PORT")) << help;
  }
}

TEST(ProcessTest, VersionIsDone) {
  Process process({"--version"});
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_TRUE(absl::StartsWith(process.out(), "weightstream ")) << process.out();
}

struct BadUsage {
  std::vector<std::string> arguments;
  std::string says;
  std::string see;
};

TEST(ProcessTest, BadUsageIsExitCode2WithTheCauseAndWhereToLook) {
  const std::vector<BadUsage> cases = {
      {{}, "a command is missing", "see weightstream --help"},
      {{"psuh"}, "unknown command \"psuh\"", "see weightstream --help"},
      {{"--to=a:1", "push"}, "the command comes first", "see weightstream --help"},
      {{"push"}, "PATH is missing", "see weightstream push --help"},
      {{"push", "x", "--to=a:1"}, "--model=NAME is missing", "see weightstream push --help"},
      {{"push", "x", "--to=a:1", "--model=m", "--versoin=1"}, "unknown flag --versoin", "see weightstream push --help"},
      {{"push", "x", "--to=a:1", "--model=m", "--version=0"}, "--version wants", "see weightstream push --help"},
      {{"push", "x", "--to=a:1", "--model=m", "--bucket-mib=1", "--bucket-bytes=1"},
       "--bucket-mib and --bucket-bytes contradict",
       "see weightstream push --help"},
      {{"status"}, "--to=ADDR[,ADDR...] is missing", "see weightstream status --help"},
      {{"watch", "--to=a:1", "--until-version=1"}, "--until-version wants --model", "see weightstream watch --help"},
      {{"pull", "--from=a:1,a:1", "--model=m", "--out=x"}, "--from", "see weightstream pull --help"},
      {{"status", "--to=@"}, "\"@\" names no file", "see weightstream status --help"},
      {{"status", "--to=dns://10.0.0.1/a:1"}, "give dns:///a:1", "see weightstream status --help"},
      {{"push", "x", "--to=a:1", "--model=m", "--traceparent=x"}, "no trace context", "see weightstream push --help"},
      {{"verify", "--to=a:1", "--model=m"}, "PATH is missing", "see weightstream verify --help"},
      {{"rollback", "--to=a:1", "--model=m"}, "--version=N is missing", "see weightstream rollback --help"},
  };
  for (const BadUsage& bad : cases) {
    Process process(bad.arguments);
    EXPECT_EQ(process.Wait(), 2) << bad.says;
    EXPECT_TRUE(absl::StrContains(process.err(), bad.says)) << process.err();
    EXPECT_TRUE(absl::EndsWith(process.err(), bad.see + "\n")) << process.err();
    EXPECT_EQ(process.out(), "");
  }
}

TEST(ProcessTest, BadUsageIsJsonToo) {
  Process process({"push", "--json", "--nonsense"});
  EXPECT_EQ(process.Wait(), 2);
  const auto json = nlohmann::json::parse(process.out());
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["error"]["code"], "INVALID_ARGUMENT");
}

TEST(ProcessTest, AMissingFileIsExitCode1AndNamed) {
  for (const char* command : {"push", "verify"}) {
    Process process({command, "/nonexistent/x.safetensors", "--to=127.0.0.1:1", "--model=m", "--json"});
    EXPECT_EQ(process.Wait(), 1);
    const auto json = nlohmann::json::parse(process.out());
    EXPECT_EQ(json["ok"], false);
    EXPECT_EQ(json["error"]["code"], "NOT_FOUND") << json;
    EXPECT_TRUE(absl::StrContains(process.err(), "/nonexistent/x.safetensors")) << process.err();
  }
}

TEST(ProcessTest, AServerOutOfReachIsExitCode1AndUnavailable) {
  const std::vector<std::vector<std::string>> cases = {
      {"status", "--to=127.0.0.1:1", "--json"},
      {"rollback", "--to=127.0.0.1:1", "--model=m", "--version=1", "--json"},
      {"pull", "--from=127.0.0.1:1", "--model=m", absl::StrCat("--out=", testing::TempDir()), "--connect-seconds=1",
       "--json"},
  };
  for (const std::vector<std::string>& arguments : cases) {
    Process process(arguments);
    EXPECT_EQ(process.Wait(), 1) << arguments[0];
    const auto json = nlohmann::json::parse(process.out());
    EXPECT_EQ(json["ok"], false) << json;
    EXPECT_EQ(json["error"]["code"], "UNAVAILABLE") << json;
    EXPECT_TRUE(absl::StrContains(process.err(), "127.0.0.1:1")) << process.err();
  }
}

TEST(ProcessTest, OutputThatCannotBeWrittenIsAFailure) {
  Process process({"--help"}, "/dev/full");
  EXPECT_EQ(process.Wait(), 1);
}

TEST(ProcessTest, AnInterruptionEndsAWatchInOrder) {
  Process process({"watch", "--to=127.0.0.1:1", "--json"});
  ASSERT_TRUE(process.Says("unreachable"));
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_TRUE(absl::EndsWith(process.out(), "{\"ok\":true}\n")) << process.out();
}

TEST(ProcessTest, ABusErrorSaysThatASourceWasTruncated) {
  Process process({"watch", "--to=127.0.0.1:1", "--json"});
  ASSERT_TRUE(process.Says("unreachable"));
  process.Signal(SIGBUS);
  EXPECT_EQ(process.Wait(), 1);
  EXPECT_TRUE(absl::StrContains(process.err(), "truncated")) << process.err();
  EXPECT_TRUE(absl::StrContains(process.out(), "DATA_LOSS")) << process.out();
}

}  // namespace
}  // namespace weightstream::command
