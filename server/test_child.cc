#include "server/test_child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace weightstream {

TestChild::TestChild(std::vector<std::string> command) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    ADD_FAILURE() << "no pipe for " << command[0];
    return;
  }
  pid_ = fork();
  if (pid_ == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(ends[1]);
  output_ = ends[0];
  EXPECT_GT(pid_, 0) << command[0];
}

TestChild::~TestChild() {
  Kill();
  if (output_ >= 0) close(output_);
}

std::string TestChild::ReadLine() {
  std::string line;
  for (char c = 0; output_ >= 0 && read(output_, &c, 1) == 1 && c != '\n';) line += c;
  return line;
}

void TestChild::Stop() {
  ASSERT_GT(pid_, 0);
  ASSERT_EQ(kill(pid_, SIGSTOP), 0);
  int status = 0;
  ASSERT_EQ(waitpid(pid_, &status, WUNTRACED), pid_);
  ASSERT_TRUE(WIFSTOPPED(status)) << "it has ended";
}

void TestChild::Continue() {
  ASSERT_GT(pid_, 0);
  ASSERT_EQ(kill(pid_, SIGCONT), 0);
}

void TestChild::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace weightstream
