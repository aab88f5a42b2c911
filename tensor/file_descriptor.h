// An open file descriptor that is closed with its owner.
#ifndef WEIGHTSTREAM_TENSOR_FILE_DESCRIPTOR_H_
#define WEIGHTSTREAM_TENSOR_FILE_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace weightstream {

// Not thread-safe, but for get().
class FileDescriptor {
 public:
  FileDescriptor() = default;
  // Takes it over; a negative one is none.
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { Close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  // The caller's from now on.
  int Release() { return std::exchange(fd_, -1); }

 private:
  void Close() {
    if (fd_ >= 0) close(fd_);
  }

  int fd_ = -1;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TENSOR_FILE_DESCRIPTOR_H_
