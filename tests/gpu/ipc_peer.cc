#include "tests/gpu/ipc_peer.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <istream>
#include <ostream>
#include <sstream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "kernels/cuda/error_codes.h"

namespace weightstream {
namespace {

// Device memory on device 0, and what it takes to move bytes to and from it. What is allocated goes with the process.
class Peer {
 public:
  explicit Peer(CudaRuntime& runtime) : runtime_(runtime) {}

  // "HANDLE UUID OFFSET".
  absl::StatusOr<std::string> Allocate(const std::string& bytes) {
    CudaDeviceInfo info;
    CudaIpcHandle handle;
    char* base = nullptr;
    uint64_t base_bytes = 0;
    absl::Status status = Call("SetDevice", runtime_.SetDevice(0));
    if (status.ok()) status = Call("GetDeviceInfo", runtime_.GetDeviceInfo(0, &info));
    if (status.ok()) status = Call("StreamCreate", runtime_.StreamCreate(&stream_));
    if (status.ok()) status = Call("Malloc", runtime_.Malloc(bytes.size(), &memory_));
    if (status.ok()) status = Call("HostAlloc", runtime_.HostAlloc(bytes.size(), &pinned_));
    if (!status.ok()) return status;
    pinned_bytes_ = bytes.size();
    std::memcpy(pinned_, bytes.data(), bytes.size());
    status = Call("CopyToDevice", runtime_.CopyToDevice(memory_, pinned_, bytes.size(), stream_));
    if (status.ok()) status = Call("StreamSynchronize", runtime_.StreamSynchronize(stream_));
    if (status.ok()) status = Call("GetAddressRange", runtime_.GetAddressRange(memory_, &base, &base_bytes));
    if (status.ok()) status = Call("IpcGetMemHandle", runtime_.IpcGetMemHandle(&handle, memory_));
    if (!status.ok()) return status;
    return absl::StrCat(absl::BytesToHexString(absl::string_view(handle.data(), handle.size())), " ",
                        absl::BytesToHexString(std::string(info.uuid.begin(), info.uuid.end())), " ", memory_ - base);
  }

  absl::StatusOr<std::string> Answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    std::string handle;
    uint64_t begin = 0;
    uint64_t bytes = 0;
    words >> command;
    if (command == "open") words >> handle;
    words >> begin >> bytes;
    if (!words || bytes > pinned_bytes_) return absl::InvalidArgumentError(absl::StrCat("no such command: ", line));
    return command == "open" ? Open(absl::HexStringToBytes(handle), begin, bytes) : Sum(memory_ + begin, bytes);
  }

 private:
  absl::StatusOr<std::string> Open(const std::string& text, uint64_t offset, uint64_t bytes) {
    CudaIpcHandle handle{};
    std::copy_n(text.begin(), std::min(text.size(), handle.size()), handle.begin());
    char* base = nullptr;
    absl::Status opened = Call("IpcOpenMemHandle", runtime_.IpcOpenMemHandle(handle, &base));
    if (!opened.ok()) return opened;
    absl::StatusOr<std::string> sum = Sum(base + offset, bytes);
    absl::Status closed = Call("IpcCloseMemHandle", runtime_.IpcCloseMemHandle(base));
    return closed.ok() ? sum : closed;
  }

  absl::StatusOr<std::string> Sum(const char* memory, uint64_t bytes) {
    std::memset(pinned_, 0, pinned_bytes_);
    absl::Status status = Call("CopyToHost", runtime_.CopyToHost(pinned_, memory, bytes, stream_));
    if (status.ok()) status = Call("StreamSynchronize", runtime_.StreamSynchronize(stream_));
    if (!status.ok()) return status;
    return absl::StrCat(ExtendCrc32c(0, {pinned_, bytes}));
  }

  absl::Status Call(absl::string_view name, CudaError error) {
    if (error == kCudaSuccess) return absl::OkStatus();
    runtime_.ClearLastError();
    return absl::InternalError(absl::StrCat(name, ": ", runtime_.ErrorText(error)));
  }

  CudaRuntime& runtime_;
  CudaStreamHandle stream_ = nullptr;
  char* memory_ = nullptr;
  char* pinned_ = nullptr;
  uint64_t pinned_bytes_ = 0;
};

bool Say(std::ostream& out, const absl::StatusOr<std::string>& answer) {
  out << (answer.ok() ? *answer : absl::StrCat("error ", answer.status().message())) << std::endl;
  return answer.ok();
}

}  // namespace

int ServeIpcPeer(CudaRuntime& runtime, const std::string& memory, std::istream& in, std::ostream& out) {
  Peer peer(runtime);
  if (!Say(out, peer.Allocate(memory))) return 1;
  for (std::string line; std::getline(in, line);) Say(out, peer.Answer(line));
  return 0;
}

}  // namespace weightstream
