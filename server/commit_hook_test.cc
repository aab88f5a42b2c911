#include "server/commit_hook.h"

#include <httplib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "server/test_update.h"

namespace weightstream {
namespace {

const CurrentVersionEvent kEvent{"policy", 7, "/data/policy/7", "/data/policy/7/model.safetensors"};

std::string Filled(absl::string_view text, const CurrentVersionEvent& event = kEvent) {
  const absl::StatusOr<CommitHookBody> body = CommitHookBody::Parse(text);
  return body.ok() ? body->Fill(event) : body.status().ToString();
}

TEST(CommitHookBodyTest, NamesInBracesAreFilledInAndNothingElse) {
  EXPECT_EQ(Filled(R"({"b": "{model}:{version}", "a": ["{path}", {"x": "in {folder}."}], "n": 3, "t": true})"),
            R"({"b":"policy:7","a":["/data/policy/7/model.safetensors",{"x":"in /data/policy/7."}],"n":3,"t":true})");
  EXPECT_EQ(Filled(R"({"{model}": "{", "b": "}{ {} {A} {{model}}"})"), R"({"{model}":"{","b":"}{ {} {A} {policy}"})");
  EXPECT_EQ(CommitHookBody().Fill(kEvent), "");
}

TEST(CommitHookBodyTest, WhatIsFilledInIsEscapedAndNotFilledInAgain) {
  EXPECT_EQ(Filled(R"({"a": "{folder}"})", {"m", 1, "/a\"b\\c\n{model}", ""}), R"({"a":"/a\"b\\c\n{model}"})");
}

TEST(CommitHookBodyTest, WhatIsNoTemplateIsRefused) {
  for (const char* text : {"", "{", "nonsense", "\"{model}\"", "7", "{\"a\": {model}}"}) {
    EXPECT_TRUE(absl::StrContains(Filled(text), "is no JSON object")) << text << ": " << Filled(text);
  }
  EXPECT_TRUE(absl::StrContains(Filled(R"({"a": [{"b": "{modle}"}]})"), "has {modle}; there are {model}"));
}

TEST(ShortAnswerTest, IsOneCleanLineOfBoundedLength) {
  EXPECT_EQ(ShortAnswer(" a\nb\x1b[2J\xff \n"), "a b [2J?");
  const std::string cut = ShortAnswer(std::string(5000, 'x'));
  EXPECT_LT(cut.size(), 400u);
  EXPECT_TRUE(absl::StrContains(cut, "(5000 bytes)")) << cut;
}

// An HTTP server whose handler a test sets.
class HttpHookTest : public ::testing::Test {
 protected:
  using Handler = std::function<void(const httplib::Request&, httplib::Response&)>;

  ~HttpHookTest() override {
    release_.store(true);
    if (!thread_.joinable()) return;
    server_.stop();
    thread_.join();
  }

  void Serve(Handler handler) {
    server_.Post(
        ".*", [this, handler = std::move(handler)](const httplib::Request& request, httplib::Response& answer) {
          {
            absl::MutexLock lock(&mutex_);
            seen_.push_back(request.target + " " + request.get_header_value("Content-Type") + " " + request.body);
          }
          handler(request, answer);
        });
    options_.host = "127.0.0.1";
    options_.port = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    ASSERT_TRUE(WaitFor([this] { return server_.is_running(); }));
  }

  void Request(const std::string& path, const std::string& body) {
    options_.requests.push_back({path, body.empty() ? CommitHookBody() : CommitHookBody::Parse(body).value()});
  }

  std::vector<std::string> seen() {
    absl::MutexLock lock(&mutex_);
    return seen_;
  }

  absl::StatusOr<std::string> Call() { return NewCommitHook(options_)->Call(kEvent); }

  CommitHookOptions options_;
  // Set at the end, for handlers that hang until then.
  std::atomic<bool> release_{false};

 private:
  httplib::Server server_;
  std::thread thread_;
  absl::Mutex mutex_;
  std::vector<std::string> seen_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(HttpHookTest, RequestsAreSentInOrderAndAnswersReturned) {
  Serve([](const httplib::Request& request, httplib::Response& answer) {
    if (request.path == "/one") answer.set_content(R"({"success": true, "message": "well"})", "application/json");
  });
  Request("/one?x=1", R"({"path": "{path}"})");
  Request("/two", "");
  const absl::StatusOr<std::string> answer = Call();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, R"(200 {"success": true, "message": "well"}; 200)");
  EXPECT_EQ(seen(), (std::vector<std::string>{
                        R"(/one?x=1 application/json {"path":"/data/policy/7/model.safetensors"})", "/two  "}));
}

TEST_F(HttpHookTest, TheTraceOfTheCommitGoesOnAsASpanOfItsOwn) {
  Serve([](const httplib::Request& request, httplib::Response& answer) {
    answer.set_content(request.get_header_value("traceparent"), "text/plain");
  });
  Request("/one", "");
  EXPECT_EQ(*Call(), "200") << "no header without a trace";
  CurrentVersionEvent event = kEvent;
  event.trace = TraceContext{"0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1};
  const absl::StatusOr<std::string> answer = NewCommitHook(options_)->Call(event);
  ASSERT_TRUE(answer.ok()) << answer.status();
  const absl::optional<TraceContext> told = ParseTraceparent(absl::StripPrefix(*answer, "200 "));
  ASSERT_TRUE(told.has_value()) << *answer;
  EXPECT_EQ(told->trace_id, event.trace->trace_id);
  EXPECT_NE(told->span_id, event.trace->span_id);
}

TEST_F(HttpHookTest, AnAnswerThatSaysNoIsAFailureWithItsWordsAndEndsTheAttempt) {
  Serve([](const httplib::Request&, httplib::Response& answer) {
    answer.set_content(R"({"success": false, "message": "shapes differ"})", "application/json");
  });
  Request("/one", "{}");
  Request("/two", "{}");
  const absl::Status status = Call().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_TRUE(
      absl::StrContains(status.message(), "/one: answered 200 {\"success\": false, \"message\": \"shapes differ"))
      << status;
  EXPECT_EQ(seen().size(), 1u);
}

TEST_F(HttpHookTest, OtherStatusesThan2xxAreFailures) {
  std::atomic<int> code{302};
  Serve([&](const httplib::Request&, httplib::Response& answer) {
    answer.status = code.load();
    answer.set_header("Location", "/elsewhere");
    answer.set_content("words", "text/plain");
  });
  Request("/", "{}");
  for (const int refused : {302, 400, 404, 503}) {
    code.store(refused);
    const absl::Status status = Call().status();
    EXPECT_TRUE(absl::StrContains(status.message(), absl::StrCat("answered ", refused, " words"))) << status;
  }
  EXPECT_EQ(seen().size(), 4u);
  code.store(204);
  EXPECT_TRUE(Call().ok());
}

TEST_F(HttpHookTest, NobodyThereIsAnErrorThatNamesTheUrl) {
  options_.host = "127.0.0.1";
  // Needs a privilege that no server here has.
  options_.port = 1;
  Request("/x", "{}");
  const absl::Status status = Call().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "POST http://127.0.0.1:1/x: ")) << status;
}

TEST_F(HttpHookTest, AServerThatDoesNotAnswerIsLeftAtTheTimeout) {
  Serve([this](const httplib::Request&, httplib::Response&) { WaitFor([this] { return release_.load(); }); });
  options_.timeout = absl::Milliseconds(300);
  Request("/x", "{}");
  const absl::Status status = Call().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "--on-commit-timeout-seconds")) << status;
}

TEST_F(HttpHookTest, ACutEndsTheAttemptUnderWayAndLaterOnes) {
  Serve([this](const httplib::Request&, httplib::Response&) { WaitFor([this] { return release_.load(); }); });
  Request("/x", "{}");
  const std::unique_ptr<CommitHook> hook = NewCommitHook(options_);
  absl::Status status;
  std::thread call([&] { status = hook->Call(kEvent).status(); });
  EXPECT_TRUE(WaitFor([this] { return !seen().empty(); }));
  hook->Cut();
  call.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(hook->Call(kEvent).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(seen().size(), 1u);
}

TEST_F(HttpHookTest, AnEndlessAnswerIsReadInPart) {
  Serve([](const httplib::Request&, httplib::Response& answer) {
    answer.set_content(std::string(1 << 20, 'x'), "text/plain");
  });
  Request("/x", "{}");
  const absl::StatusOr<std::string> answer = Call();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_LT(answer->size(), 400u);
}

// A shell script in a folder of the test's own.
std::string Script(const std::string& text) {
  static std::atomic<int> count{0};
  const std::string path = absl::StrCat(::testing::TempDir(), "/hook-", count++, ".sh");
  std::ofstream(path) << "#!/bin/sh\n" << text << "\n";
  chmod(path.c_str(), 0700);
  return path;
}

absl::StatusOr<std::string> RunScript(const std::string& script, absl::Duration timeout = absl::Minutes(1)) {
  CommitHookOptions options;
  options.program = Script(script);
  options.timeout = timeout;
  return NewCommitHook(options)->Call(kEvent);
}

TEST(ExecHookTest, TheProgramGetsTheVersionByItsEnvironment) {
  setenv("WEIGHTSTREAM_MODEL", "not this", 1);
  setenv("HOOK_TEST_INHERITED", "kept", 1);
  const absl::StatusOr<std::string> answer = RunScript(
      "echo $# $WEIGHTSTREAM_MODEL $WEIGHTSTREAM_VERSION $WEIGHTSTREAM_PATH $WEIGHTSTREAM_FOLDER "
      "$HOOK_TEST_INHERITED; echo error >&2");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, "code 0: 0 policy 7 /data/policy/7/model.safetensors /data/policy/7 kept error");
}

TEST(ExecHookTest, AnotherCodeOrASignalIsAFailureWithWhatWasPrinted) {
  absl::Status status = RunScript("echo no such model; exit 3").status();
  EXPECT_TRUE(absl::StrContains(status.message(), " ended with code 3: no such model")) << status;
  status = RunScript("kill -TERM $$").status();
  EXPECT_TRUE(absl::StrContains(status.message(), " was ended by signal 15")) << status;
}

TEST(ExecHookTest, AProgramThatCannotBeStartedIsNamed) {
  CommitHookOptions options;
  options.program = "/nonexistent/program";
  const absl::Status status = NewCommitHook(options)->Call(kEvent).status();
  EXPECT_TRUE(absl::StrContains(status.message(), "/nonexistent/program cannot be started: No such file")) << status;
}

TEST(ExecHookTest, APrinterOfMuchIsNotHeldUp) {
  const absl::StatusOr<std::string> answer = RunScript("head -c 1000000 /dev/zero | tr '\\0' x");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_LT(answer->size(), 400u);
}

TEST(ExecHookTest, AtTheTimeoutTheProgramIsKilledWithWhatItStarted) {
  const std::string pid_file = ::testing::TempDir() + "/sleeper.pid";
  int sleeper = 0;
  // Again, if this machine was too busy to come so far in time.
  ASSERT_TRUE(WaitFor([&] {
    const absl::Status status =
        RunScript(absl::StrCat("sleep 1000 & echo $! > ", pid_file, "; wait"), absl::Milliseconds(500)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    return static_cast<bool>(std::ifstream(pid_file) >> sleeper);
  }));
  // Where nobody reaps it, it stays as a zombie, which has no command line any more.
  EXPECT_TRUE(WaitFor([&] {
    std::ifstream command(absl::StrCat("/proc/", sleeper, "/cmdline"));
    return command.peek() == std::ifstream::traits_type::eof();
  }));
}

TEST(ExecHookTest, ACutKillsTheProgram) {
  CommitHookOptions options;
  const std::string started = ::testing::TempDir() + "/started";
  options.program = Script(absl::StrCat("touch ", started, "; sleep 1000"));
  const std::unique_ptr<CommitHook> hook = NewCommitHook(options);
  absl::Status status;
  std::thread call([&] { status = hook->Call(kEvent).status(); });
  EXPECT_TRUE(WaitFor([&] { return access(started.c_str(), F_OK) == 0; }));
  hook->Cut();
  call.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
}

}  // namespace
}  // namespace weightstream
