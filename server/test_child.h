// A child process of a test, which reads its output line by line and may kill it.
#ifndef WEIGHTSTREAM_SERVER_TEST_CHILD_H_
#define WEIGHTSTREAM_SERVER_TEST_CHILD_H_

#include <sys/types.h>

#include <string>
#include <vector>

namespace weightstream {

class TestChild {
 public:
  // Starts the program, a path below the test's folder of runfiles, with its output in a pipe.
  explicit TestChild(std::vector<std::string> command);
  // As Kill.
  ~TestChild();
  TestChild(const TestChild&) = delete;
  TestChild& operator=(const TestChild&) = delete;

  // The next line of its output, without the newline; what there is of it at the output's end.
  std::string ReadLine();

  // SIGSTOP: it runs no more, and its kernel keeps its connections. SIGCONT: it goes on.
  void Stop();
  void Continue();

  // SIGKILL, and waits until it is gone.
  void Kill();

 private:
  pid_t pid_ = -1;
  int output_ = -1;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TEST_CHILD_H_
