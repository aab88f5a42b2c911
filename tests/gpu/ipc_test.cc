// Device memory that two processes share: through our code on one side, and the bare runtime's calls on the other.
// Where there is no GPU, the cases run over the fake runtime, whose other process is none, and those of the GPU are
// skipped.
//
// With --ipc-peer=cuda or --ipc-peer=fake this program is the other process (ipc_peer.h).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/checksum.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/fake_runtime.h"
#include "kernels/cuda/system_runtime.h"
#include "kernels/device_testing.h"
#include "tests/gpu/ipc_peer.h"

namespace weightstream {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr char kPeerFlag[] = "--ipc-peer=";
// More than what cudaMalloc takes of one block for several allocations, and no multiple of anything.
constexpr uint64_t kBytes = (8 << 20) + 77;
constexpr uint64_t kBlock = 1 << 20;

std::string PeersBytes() { return RandomBytes(kBytes, 1); }

std::string SumOf(absl::string_view bytes) { return absl::StrCat(ExtendCrc32c(0, bytes)); }

// The other process.
class Peer {
 public:
  virtual ~Peer() = default;
  // Its allocation, in which PeersBytes() lie.
  virtual SharedMemory memory() = 0;
  // SumOf its own memory, and of what is named to it, as it sees them; or "error ...".
  virtual std::string Sum(uint64_t begin, uint64_t bytes) = 0;
  virtual std::string SumOfOpened(const SharedMemory& shared) = 0;
  virtual void End() = 0;
};

class ProcessPeer : public Peer {
 public:
  explicit ProcessPeer(const std::string& runtime) {
    int to[2];
    int from[2];
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) {
      ADD_FAILURE() << "no pipes: " << std::strerror(errno);
      return;
    }
    const std::string flag = kPeerFlag + runtime;
    pid_ = fork();
    if (pid_ == 0) {
      dup2(to[0], STDIN_FILENO);
      dup2(from[1], STDOUT_FILENO);
      execl("/proc/self/exe", "ipc_peer", flag.c_str(), nullptr);
      _exit(127);
    }
    EXPECT_GT(pid_, 0);
    close(to[0]);
    close(from[1]);
    to_ = to[1];
    from_ = from[0];
    const std::string greeting = ReadLine();
    std::istringstream words(greeting);
    std::string handle;
    std::string uuid;
    words >> handle >> uuid >> memory_.offset;
    EXPECT_TRUE(words) << "the other process said: " << greeting;
    memory_.handle = absl::HexStringToBytes(handle);
    memory_.device_uuid = absl::HexStringToBytes(uuid);
    memory_.bytes = kBytes;
  }

  ~ProcessPeer() override {
    End();
    if (from_ >= 0) close(from_);
  }

  SharedMemory memory() override { return memory_; }
  std::string Sum(uint64_t begin, uint64_t bytes) override { return Ask(absl::StrCat("sum ", begin, " ", bytes)); }
  std::string SumOfOpened(const SharedMemory& shared) override {
    return Ask(absl::StrCat("open ", absl::BytesToHexString(shared.handle), " ", shared.offset, " ", shared.bytes));
  }

  // Its input ends, and so does it.
  void End() override {
    if (pid_ <= 0) return;
    close(to_);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    EXPECT_EQ(status, 0);
    pid_ = -1;
  }

 private:
  std::string Ask(const std::string& question) {
    const std::string line = question + "\n";
    if (write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) return "it has gone";
    return ReadLine();
  }

  std::string ReadLine() {
    std::string line;
    for (char c = 0; read(from_, &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }

  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  SharedMemory memory_;
};

class FakePeer : public Peer {
 public:
  explicit FakePeer(FakeCudaRuntime& runtime) : runtime_(runtime) {
    const auto [handle, memory] = runtime.AllocateElsewhere(0, kBytes);
    handle_ = std::string(handle.begin(), handle.end());
    seen_ = memory;
    std::memcpy(memory, PeersBytes().data(), kBytes);
  }
  SharedMemory memory() override {
    CudaDeviceInfo info;
    EXPECT_EQ(runtime_.GetDeviceInfo(0, &info), 0);
    return {handle_, std::string(info.uuid.begin(), info.uuid.end()), 0, kBytes};
  }
  std::string Sum(uint64_t begin, uint64_t bytes) override { return SumOf({seen_ + begin, bytes}); }
  std::string SumOfOpened(const SharedMemory& shared) override {
    const char* const allocation = runtime_.SeenElsewhere(shared.handle);
    return allocation == nullptr ? "error" : SumOf({allocation + shared.offset, shared.bytes});
  }
  void End() override { runtime_.EndOtherProcess(); }

 private:
  FakeCudaRuntime& runtime_;
  std::string handle_;
  const char* seen_ = nullptr;
};

class SharedBetweenProcessesTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const bool real = GetParam() == "Cuda";
    auto device = CudaDevice::Open(real ? SystemCudaRuntime() : &fake_, {});
    if (real && !device.ok()) GTEST_SKIP() << device.status().message();
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    if (real) {
      peer_ = std::make_unique<ProcessPeer>("cuda");
    } else {
      peer_ = std::make_unique<FakePeer>(fake_);
    }
  }

  void TearDown() override {
    device_.reset();
    EXPECT_EQ(fake_.misuse(), std::vector<std::string>());
    EXPECT_EQ(fake_.open_handles(), 0u);
  }

  void Write(Target& target, uint64_t offset, const std::string& bytes) {
    const auto staged = device_->AllocatePinned(bytes.size());
    ASSERT_TRUE(staged.ok()) << staged.status();
    std::memcpy((*staged)->data(), bytes.data(), bytes.size());
    CopyResults results;
    device_->CopyToTarget({(*staged)->data(), bytes.size()}, target, offset, results.Expect());
    ASSERT_EQ(results.Wait(), absl::OkStatus());
  }

  // The target holds these bytes: by the digest on the device, and read back.
  void ExpectHolds(Target& target, const std::string& bytes) {
    std::vector<uint32_t> sums;
    for (uint64_t at = 0; at < bytes.size(); at += kBlock) {
      sums.push_back(ExtendCrc32c(0, absl::string_view(bytes).substr(at, kBlock)));
    }
    const auto digest = device_->DigestTarget(target, {0, bytes.size()}, kBlock);
    ASSERT_TRUE(digest.ok()) << digest.status();
    EXPECT_EQ(*digest, sums);
    std::string read(bytes.size(), '\0');
    ASSERT_EQ(device_->ReadTarget(target, {0, bytes.size()}, read.data()), absl::OkStatus());
    EXPECT_TRUE(read == bytes);
  }

  void ExpectRefused(const SharedMemory& shared) {
    const absl::Status refused = device_->Open(shared).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("the handle is not one of another process's allocation"));
    EXPECT_EQ(device_->Health(), absl::OkStatus());
  }

  FakeCudaRuntime fake_;
  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<Peer> peer_;
};

TEST_P(SharedBetweenProcessesTest, TheOthersMemoryIsDigestedWrittenAndClosed) {
  constexpr uint64_t kOffset = 12'345;
  const SharedMemory shared = peer_->memory();
  std::string bytes = PeersBytes();
  auto target = device_->Open(shared);
  ASSERT_TRUE(target.ok()) << target.status();
  ExpectHolds(**target, bytes);
  const std::string written = RandomBytes(kBlock + 5, 2);
  Write(**target, kOffset, written);
  bytes.replace(kOffset, written.size(), written);
  ExpectHolds(**target, bytes);
  target->reset();
  EXPECT_EQ(peer_->Sum(0, kBytes), SumOf(bytes)) << "what its owner sees";
  // It opens again, and a part of it.
  auto part = device_->Open({shared.handle, shared.device_uuid, shared.offset + kOffset, written.size()});
  ASSERT_TRUE(part.ok()) << part.status();
  ExpectHolds(**part, written);
}

TEST_P(SharedBetweenProcessesTest, OurMemoryIsSeenByTheOther) {
  auto target = device_->CreateTarget({.bytes = kBytes});
  ASSERT_TRUE(target.ok()) << target.status();
  const std::string bytes = RandomBytes(kBytes, 3);
  Write(**target, 0, bytes);
  auto exported = device_->Export(**target);
  ASSERT_TRUE(exported.ok()) << exported.status();
  EXPECT_EQ(exported->bytes, kBytes);
  EXPECT_EQ(peer_->SumOfOpened(*exported), SumOf(bytes));
  exported->offset += 1'000;
  exported->bytes = 500;
  EXPECT_EQ(peer_->SumOfOpened(*exported), SumOf(bytes.substr(1'000, 500)));
}

TEST_P(SharedBetweenProcessesTest, GarbageIsRefusedAndHarmsNothing) {
  SharedMemory garbage = peer_->memory();
  for (uint64_t seed = 10; seed < 20; ++seed) {
    garbage.handle = RandomBytes(garbage.handle.size(), seed);
    ExpectRefused(garbage);
  }
  auto target = device_->Open(peer_->memory());
  ASSERT_TRUE(target.ok()) << target.status();
  ExpectHolds(**target, PeersBytes());
}

TEST_P(SharedBetweenProcessesTest, AHandleOfAProcessThatHasEndedIsRefused) {
  const SharedMemory shared = peer_->memory();
  peer_->End();
  ExpectRefused(shared);
}

INSTANTIATE_TEST_SUITE_P(Runtimes, SharedBetweenProcessesTest, testing::Values("CudaOverFakeRuntime", "Cuda"),
                         [](const testing::TestParamInfo<std::string>& info) { return info.param; });

// The other process as it is, but for the runtime.
TEST(IpcPeerTest, TheOtherProcessNamesItsMemoryAndAnswers) {
  ProcessPeer peer("fake");
  EXPECT_EQ(peer.memory().handle.size(), std::tuple_size_v<CudaIpcHandle>);
  EXPECT_EQ(peer.memory().device_uuid.size(), 16u);
  const std::string bytes = PeersBytes();
  EXPECT_EQ(peer.Sum(0, kBytes), SumOf(bytes));
  EXPECT_EQ(peer.Sum(77, 1'000), SumOf(bytes.substr(77, 1'000)));
  SharedMemory garbage = peer.memory();
  garbage.handle = RandomBytes(garbage.handle.size(), 4);
  EXPECT_THAT(peer.SumOfOpened(garbage), StartsWith("error IpcOpenMemHandle: "));
  EXPECT_EQ(peer.Sum(0, kBytes), SumOf(bytes)) << "it goes on";
}

int RunPeer(absl::string_view name) {
  FakeCudaRuntime fake;
  CudaRuntime* const runtime = name == "fake" ? &fake : SystemCudaRuntime();
  return runtime == nullptr ? 2 : ServeIpcPeer(*runtime, PeersBytes(), std::cin, std::cout);
}

}  // namespace
}  // namespace weightstream

int main(int argc, char** argv) {
  absl::string_view first = argc > 1 ? argv[1] : "";
  if (absl::ConsumePrefix(&first, weightstream::kPeerFlag)) return weightstream::RunPeer(first);
  // A peer that has gone is a failure of its case, not the end of them all.
  std::signal(SIGPIPE, SIG_IGN);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
