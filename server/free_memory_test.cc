#include "server/free_memory.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "gtest/gtest.h"

namespace weightstream {
namespace {

class FreeMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_ + "/cgroup/memory");
    Write("meminfo", "MemTotal:       200 kB\nMemAvailable:   100 kB\nBuffers: 1 kB\n");
  }

  void Write(const std::string& name, const std::string& text) { std::ofstream(root_ + "/" + name) << text; }
  uint64_t Free() const { return FreeMemoryBytes(root_, root_ + "/cgroup"); }

  const std::string root_ = testing::TempDir() + "/free_memory_test";
};

TEST_F(FreeMemoryTest, WithoutAGroupItIsWhatTheMachineHas) { EXPECT_EQ(Free(), 100u * 1024); }

TEST_F(FreeMemoryTest, AGroupWithoutALimitChangesNothing) {
  Write("cgroup/memory.max", "max\n");
  Write("cgroup/memory.current", "5000\n");
  EXPECT_EQ(Free(), 100u * 1024);
}

TEST_F(FreeMemoryTest, AGroupsLimitLessWhatItUsesBinds) {
  Write("cgroup/memory.max", "50000\n");
  Write("cgroup/memory.current", "30000\n");
  EXPECT_EQ(Free(), 20000u);
  Write("cgroup/memory.stat", "anon 1\ninactive_file 10000\n");
  EXPECT_EQ(Free(), 30000u);
  Write("cgroup/memory.current", "70000\n");
  EXPECT_EQ(Free(), 0u);
}

TEST_F(FreeMemoryTest, TheFirstVersionOfGroupsIsUnderstoodToo) {
  Write("cgroup/memory/memory.limit_in_bytes", "40000\n");
  Write("cgroup/memory/memory.usage_in_bytes", "30000\n");
  Write("cgroup/memory/memory.stat", "total_inactive_file 500\n");
  EXPECT_EQ(Free(), 10500u);
}

TEST_F(FreeMemoryTest, WhereNothingIsKnownNothingIsRefused) {
  EXPECT_EQ(FreeMemoryBytes(root_ + "/none", root_ + "/none"), std::numeric_limits<uint64_t>::max());
}

}  // namespace
}  // namespace weightstream
