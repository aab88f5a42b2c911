#include "tensor/safetensors_writer.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/checkpoint.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

SafetensorsLayout TenBytes() {
  const std::vector<TensorSpec> specs = {{"a", DType::kU8, {6}}, {"b", DType::kF32, {1}}};
  return LayOutSafetensors(specs, {{"format", "pt"}}).value();
}

TEST(SafetensorsWriter, WritesRangesInAnyOrderAndZeroWhereNothingWasWritten) {
  const std::string folder = MakeTestFolder();
  const std::string path = folder + "/model.safetensors";
  const absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer = SafetensorsWriter::Create(path, TenBytes());
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Write(8, "yz").ok());
  ASSERT_TRUE((*writer)->Write(0, "abc").ok());
  ASSERT_TRUE((*writer)->Write(10, "").ok());
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  ASSERT_TRUE((*writer)->Finish().ok());
  EXPECT_THAT(NamesIn(folder), ElementsAre("model.safetensors"));
  EXPECT_EQ(ReadTestFile(path), EncodeSafetensorsHeader(TenBytes()) + std::string("abc\0\0\0\0\0yz", 10));
}

TEST(SafetensorsWriter, AbandonedItLeavesNothingBehind) {
  const std::string folder = MakeTestFolder();
  {
    const absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer =
        SafetensorsWriter::Create(folder + "/f", TenBytes());
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->Write(0, "abc").ok());
  }
  EXPECT_THAT(NamesIn(folder), IsEmpty());
}

TEST(SafetensorsWriter, PastTheEndIsOutOfRange) {
  const absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer =
      SafetensorsWriter::Create(MakeTestFolder() + "/f", TenBytes());
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ((*writer)->Write(8, "xyz").code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ((*writer)->Write(11, "").code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ((*writer)->Write(~uint64_t{0}, "xy").code(), absl::StatusCode::kOutOfRange);
}

TEST(SafetensorsWriter, AfterFinishNothingCanBeWritten) {
  const absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer =
      SafetensorsWriter::Create(MakeTestFolder() + "/f", TenBytes());
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Finish().ok());
  EXPECT_EQ((*writer)->Write(0, "x").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*writer)->Finish().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(SafetensorsWriter, ALayoutThatContradictsItselfIsRefused) {
  const std::string folder = MakeTestFolder();
  SafetensorsLayout hole = TenBytes();
  hole.tensors[1].range = {5, 11};
  hole.data_bytes = 11;
  SafetensorsLayout short_header = TenBytes();
  short_header.data_start = 16;
  SafetensorsLayout unsorted = TenBytes();
  std::swap(unsorted.tensors[0], unsorted.tensors[1]);
  for (const SafetensorsLayout& layout : {hole, short_header, unsorted}) {
    EXPECT_EQ(SafetensorsWriter::Create(folder + "/f", layout).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_THAT(NamesIn(folder), IsEmpty());
}

TEST(SafetensorsWriter, SeveralThreadsWriteDisjointRanges) {
  constexpr uint64_t kThreads = 4;
  constexpr uint64_t kBytesEach = 100'000;
  const std::string path = MakeTestFolder() + "/f";
  const std::vector<TensorSpec> specs = {{"a", DType::kU8, {kThreads * kBytesEach}}};
  const absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer =
      SafetensorsWriter::Create(path, LayOutSafetensors(specs, {}).value());
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&writer, i] {
      const std::string bytes(1000, static_cast<char>('a' + i));
      for (uint64_t at = 0; at < kBytesEach; at += bytes.size()) {
        EXPECT_TRUE((*writer)->Write(i * kBytesEach + at, bytes).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE((*writer)->Finish().ok());
  std::string expected;
  for (uint64_t i = 0; i < kThreads; ++i) expected.append(kBytesEach, static_cast<char>('a' + i));
  EXPECT_TRUE(ReadTestFile(path).substr((*writer)->layout().data_start) == expected);
}

TEST(WriteSafetensors, WhatIsWrittenIsReadBackBitForBit) {
  std::mt19937 random(3);
  std::vector<std::string> bytes;
  std::vector<TensorData> tensors;
  for (int i = 0; i < 30; ++i) {
    const auto dtype = static_cast<DType>(i % kDTypeCount);
    const uint64_t elements = 4 * (random() % 5000);
    bytes.emplace_back(elements * DTypeBits(dtype) / 8, '\0');
    for (char& byte : bytes.back()) byte = static_cast<char>(random());
    tensors.push_back({{absl::StrCat("t", i), dtype, {elements}}, {}});
  }
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].data = bytes[i];
  const std::string path = MakeTestFolder() + "/f";
  const absl::Status status = WriteSafetensors(path, tensors, {{"k", "v"}});
  ASSERT_TRUE(status.ok()) << status;

  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->metadata(), (Metadata{{"k", "v"}}));
  ASSERT_EQ(checkpoint->tensors().size(), tensors.size());
  for (const Checkpoint::Tensor& tensor : checkpoint->tensors()) {
    const size_t i = std::stoul(tensor.spec.name.substr(1));
    EXPECT_EQ(tensor.spec, tensors[i].spec);
    EXPECT_TRUE(tensor.data == tensors[i].data) << tensor.spec.name;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data.data()) % DTypeAlignment(tensor.spec.dtype), 0u);
  }
}

TEST(WriteSafetensors, DataOfAnotherSizeAndDuplicatesAreRefused) {
  const std::string folder = MakeTestFolder();
  const std::vector<TensorData> wrong_size = {{{"w", DType::kF32, {2}}, "1234567"}};
  ExpectError(WriteSafetensors(folder + "/f", wrong_size, {}), absl::StatusCode::kInvalidArgument,
              {"\"w\"", "7 bytes", "F32[2]", "8"});
  const std::vector<TensorData> twice = {{{"w", DType::kU8, {1}}, "1"}, {{"w", DType::kU8, {1}}, "2"}};
  ExpectError(WriteSafetensors(folder + "/f", twice, {}), absl::StatusCode::kInvalidArgument, {"\"w\"", "twice"});
  EXPECT_THAT(NamesIn(folder), IsEmpty());
}

TEST(WriteSafetensors, AMissingFolderIsNotFound) {
  const std::string path = MakeTestFolder() + "/none/f";
  ExpectError(WriteSafetensors(path, {}, {}), absl::StatusCode::kNotFound, {path});
}

enum ChildResult { kAsPromised = 0, kNotAsPromised = 1, kCannotMount = 2 };

// Makes a mount namespace of our own: as root, or else as the root of a user namespace of our own.
bool EnterMountNamespace() {
  const std::string user_map = absl::StrCat("0 ", geteuid(), " 1");
  const std::string group_map = absl::StrCat("0 ", getegid(), " 1");
  if (unshare(CLONE_NEWNS) == 0) return true;
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  // Without these the user owns nothing there, and can create no file.
  WriteTestFile("/proc/self/setgroups", "deny");
  WriteTestFile("/proc/self/uid_map", user_map);
  WriteTestFile("/proc/self/gid_map", group_map);
  return geteuid() == 0;
}

// Mounts a tmpfs of 64 KiB, in a child process with a mount namespace of its own, and writes more than that into it.
ChildResult OverfillTmpfs(const std::string& folder) {
  if (!EnterMountNamespace()) return kCannotMount;
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kCannotMount;
  if (mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=64k") != 0) return kCannotMount;
  const std::string bytes(1 << 20, 'x');
  const std::vector<TensorData> tensors = {{{"w", DType::kU8, {bytes.size()}}, bytes}};
  const absl::Status status = WriteSafetensors(folder + "/f", tensors, {});
  const bool is_as_promised = absl::IsResourceExhausted(status) && NamesIn(folder).empty();
  if (!is_as_promised) fprintf(stderr, "got %s\n", status.ToString().c_str());
  return is_as_promised ? kAsPromised : kNotAsPromised;
}

TEST(WriteSafetensors, AFullTmpfsIsResourceExhaustedAndLeavesNothingBehind) {
  const std::string folder = MakeTestFolder();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(OverfillTmpfs(folder));
  int wait_status = 0;
  ASSERT_EQ(waitpid(child, &wait_status, 0), child);
  ASSERT_TRUE(WIFEXITED(wait_status));
  if (WEXITSTATUS(wait_status) == kCannotMount) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  EXPECT_EQ(WEXITSTATUS(wait_status), kAsPromised);
}

}  // namespace
}  // namespace weightstream
