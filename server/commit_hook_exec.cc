#include "server/commit_hook_exec.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tensor/monotonic_clock.h"

namespace weightstream {
namespace {

// How often the program's end, its time and a cut are looked for.
constexpr absl::Duration kLook = absl::Milliseconds(20);

// What is kept of what it prints; the rest is read and dropped, so that it never waits for us.
constexpr size_t kMostAnswerBytes = 4096;

constexpr absl::string_view kPrefix = "WEIGHTSTREAM_";

// The server's environment with the event's variables, and without others of those names.
std::vector<std::string> Environment(const CurrentVersionEvent& event) {
  std::vector<std::string> variables = {
      absl::StrCat(kPrefix, "MODEL=", event.model), absl::StrCat(kPrefix, "VERSION=", event.version),
      absl::StrCat(kPrefix, "PATH=", event.path), absl::StrCat(kPrefix, "FOLDER=", event.folder)};
  if (event.trace.has_value()) {
    variables.push_back(absl::StrCat(kTraceparentVariable, "=", FormatTraceparent(ChildOf(*event.trace))));
  }
  const size_t ours = variables.size();
  for (char** inherited = environ; *inherited != nullptr; ++inherited) {
    const absl::string_view variable = *inherited;
    bool replaced = false;
    for (size_t i = 0; i < ours; ++i) {
      const absl::string_view mine = variables[i];
      replaced = replaced || absl::StartsWith(variable, mine.substr(0, mine.find('=') + 1));
    }
    if (!replaced) variables.emplace_back(variable);
  }
  return variables;
}

// A program under way, in a process group of its own; killed and waited for at the latest with this object.
class Program {
 public:
  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    Kill();
    if (output_ >= 0) close(output_);
  }

  absl::Status Start(const std::string& path, const CurrentVersionEvent& event);

  // Reads what there is, for at most kLook. True once the program has ended; status() is then as waitpid gives it.
  bool Ended();
  void Kill();

  int status() const { return status_; }
  const std::string& output() const { return output_text_; }

 private:
  void ReadOutput();

  pid_t pid_ = 0;
  int output_ = -1;
  int status_ = 0;
  std::string output_text_;
};

absl::Status Program::Start(const std::string& path, const CurrentVersionEvent& event) {
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot make a pipe: ", strerror(errno)));
  }
  output_ = pipe_ends[0];
  // The reader does not block; the program's own end must, as it expects.
  fcntl(pipe_ends[1], F_SETFL, 0);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, pipe_ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, pipe_ends[1], STDERR_FILENO);
  // Sockets and versions of the server are none of its business, and must not outlive the server with it.
  posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  // What main.cc blocks and ignores is the server's.
  sigset_t signals;
  sigemptyset(&signals);
  posix_spawnattr_setsigmask(&attributes, &signals);
  sigaddset(&signals, SIGPIPE);
  sigaddset(&signals, SIGXFSZ);
  posix_spawnattr_setsigdefault(&attributes, &signals);

  std::string name = path;
  char* arguments[] = {name.data(), nullptr};
  std::vector<std::string> variables = Environment(event);
  std::vector<char*> environment;
  environment.reserve(variables.size() + 1);
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  const int error = posix_spawn(&pid_, path.c_str(), &files, &attributes, arguments, environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  close(pipe_ends[1]);
  if (error == 0) return absl::OkStatus();
  pid_ = 0;
  return absl::FailedPreconditionError(
      absl::StrCat("cannot be started: ", strerror(error), "; is it there, and executable by the server's user?"));
}

void Program::ReadOutput() {
  char bytes[4096];
  ssize_t count = 0;
  while ((count = read(output_, bytes, sizeof(bytes))) > 0) {
    output_text_.append(bytes, std::min<size_t>(count, kMostAnswerBytes - output_text_.size()));
  }
  // At its end it would be readable for ever.
  if (count == 0) {
    close(output_);
    output_ = -1;
  }
}

bool Program::Ended() {
  pollfd readable{output_, POLLIN, 0};
  poll(&readable, 1, static_cast<int>(absl::ToInt64Milliseconds(kLook)));
  siginfo_t ended{};
  // It stays a zombie for now: its number must not be another's when its group is killed.
  if (waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) != 0) ended.si_pid = pid_;
  // After the look at the program: what it printed last is there by then.
  if (output_ >= 0) ReadOutput();
  if (ended.si_pid != pid_) return false;
  // With what it started and left behind.
  Kill();
  return true;
}

void Program::Kill() {
  if (pid_ == 0) return;
  kill(-pid_, SIGKILL);
  waitpid(pid_, &status_, 0);
  pid_ = 0;
}

class ExecHook final : public CommitHook {
 public:
  ExecHook(std::string program, absl::Duration timeout) : path_(std::move(program)), timeout_(timeout) {}

  absl::StatusOr<std::string> Call(const CurrentVersionEvent& event) override {
    if (cut_.load()) return absl::CancelledError(absl::StrCat(path_, " is not run, the server is shutting down"));
    const absl::Duration deadline = MonotonicNow() + timeout_;
    Program program;
    if (absl::Status started = program.Start(path_, event); !started.ok()) {
      return absl::Status(started.code(), absl::StrCat(path_, " ", started.message()));
    }
    while (!program.Ended()) {
      if (cut_.load()) {
        return absl::CancelledError(absl::StrCat(path_, " was killed, the server is shutting down"));
      }
      if (MonotonicNow() >= deadline) {
        return absl::DeadlineExceededError(absl::StrCat(path_, " was killed after ", absl::FormatDuration(timeout_),
                                                        " (--on-commit-timeout-seconds)", Said(program)));
      }
    }
    const int status = program.status();
    if (WIFSIGNALED(status)) {
      return absl::FailedPreconditionError(
          absl::StrCat(path_, " was ended by signal ", WTERMSIG(status), Said(program)));
    }
    if (WEXITSTATUS(status) != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(path_, " ended with code ", WEXITSTATUS(status), Said(program)));
    }
    return absl::StrCat("code 0", Said(program));
  }

  void Cut() override { cut_.store(true); }

 private:
  static std::string Said(const Program& program) {
    const std::string said = ShortAnswer(program.output());
    return said.empty() ? "" : absl::StrCat(": ", said);
  }

  const std::string path_;
  const absl::Duration timeout_;
  std::atomic<bool> cut_{false};
};

}  // namespace

std::unique_ptr<CommitHook> NewExecHook(std::string program, absl::Duration timeout) {
  return std::make_unique<ExecHook>(std::move(program), timeout);
}

}  // namespace weightstream
