#include "server/arena_supply.h"

#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/host_device.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::ElementsAre;
using testing::IsEmpty;

// Memory that is slow to prepare, whatever the test's folder lies on.
class SlowTarget final : public Target {
 public:
  explicit SlowTarget(std::unique_ptr<Target> target) : target_(std::move(target)) {}

  uint64_t bytes() const override { return target_->bytes(); }
  absl::Status Prepare(ByteRange range) override { return target_->Prepare(range); }
  uint64_t prepared_bytes() const override { return target_->prepared_bytes(); }
  bool slow_to_prepare() const override { return true; }
  char* host_data() override { return target_->host_data(); }
  absl::Status Sync() override { return target_->Sync(); }

 private:
  const std::unique_ptr<Target> target_;
};

class SlowDevice final : public Device {
 public:
  std::string name() const override { return "slow"; }
  bool needs_staging() const override { return false; }
  bool keeps_files() const override { return true; }
  absl::StatusOr<std::unique_ptr<Target>> CreateTarget(const TargetSpec& spec) override {
    absl::StatusOr<std::unique_ptr<Target>> target = device_->CreateTarget(spec);
    if (!target.ok()) return target.status();
    return std::make_unique<SlowTarget>(*std::move(target));
  }
  absl::StatusOr<std::unique_ptr<PinnedMemory>> AllocatePinned(uint64_t bytes) override {
    return device_->AllocatePinned(bytes);
  }
  void CopyToTarget(absl::string_view staged, Target& target, uint64_t offset, CopyDone done) override {
    device_->CopyToTarget(staged, target, offset, std::move(done));
  }
  absl::Status ReadTarget(Target& target, ByteRange range, char* destination) override {
    return device_->ReadTarget(target, range, destination);
  }
  absl::StatusOr<std::vector<uint32_t>> DigestTarget(Target& target, ByteRange range, uint64_t block_bytes) override {
    return device_->DigestTarget(target, range, block_bytes);
  }
  absl::Status Health() const override { return absl::OkStatus(); }

 private:
  const std::unique_ptr<Device> device_ = NewHostDevice();
};

SafetensorsLayout Layout(uint64_t bytes) { return LayOutSafetensors({ByteTensor("w", bytes)}, {}).value(); }

// More than one step of the thread, and more than one extent.
constexpr uint64_t kBytes = 40 << 20;

class ArenaSupplyTest : public testing::Test {
 protected:
  ArenaSupply& supply() {
    if (supply_ == nullptr) {
      supply_ = std::make_unique<ArenaSupply>(
          *store_, device_,
          ArenaSupply::Options{work_ahead_, [this] { return promised_ ? promised_() : 0; }, patience_});
    }
    return *supply_;
  }

  std::shared_ptr<Target> Provide(const std::string& model, const std::string& id, const SafetensorsLayout& layout) {
    absl::StatusOr<std::shared_ptr<Target>> target = supply().Provide(
        model, id, std::make_shared<const SafetensorsLayout>(layout), EncodeSafetensorsHeader(layout), "the test");
    EXPECT_TRUE(target.ok()) << target.status();
    return target.value_or(nullptr);
  }

  // Has the supply make a spare after a version of this layout, and waits until it is ready.
  void MakeReadySpare(const std::string& model, const SafetensorsLayout& layout) {
    MakeSpare(model, layout);
    EXPECT_TRUE(WaitFor([&] { return supply().SpareBytes(model) == layout.data_bytes; }));
  }

  void MakeSpare(const std::string& model, const SafetensorsLayout& layout) {
    supply().MakeSpare(model, std::make_shared<const SafetensorsLayout>(layout), SlowTarget(std::unique_ptr<Target>()));
  }

  std::vector<std::string> Names(const std::string& model) const {
    return NamesIn(absl::StrCat(store_->data_dir(), "/", model));
  }

  std::string FileIn(const std::string& model, const std::string& folder) const {
    return absl::StrCat(store_->data_dir(), "/", model, "/", folder, "/model.safetensors");
  }

  std::string HeaderIn(const std::string& model, const std::string& folder, size_t bytes) const {
    return ReadTestFile(FileIn(model, folder)).substr(0, bytes);
  }

  uint64_t Inode(const std::string& model, const std::string& folder) const {
    struct stat info {};
    const std::string path = FileIn(model, folder);
    EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
    return info.st_ino;
  }

  const std::unique_ptr<ModelStore> store_ = ModelStore::Open(MakeTestFolder()).value();
  SlowDevice device_;
  bool work_ahead_ = true;
  absl::Duration patience_ = absl::Seconds(30);
  std::function<uint64_t()> promised_;
  std::unique_ptr<ArenaSupply> supply_;
};

TEST_F(ArenaSupplyTest, ASpareIsMadeReadyAndTakenOver) {
  const SafetensorsLayout layout = Layout(kBytes);
  MakeReadySpare("m", layout);
  ASSERT_THAT(Names("m"), ElementsAre(".spare-1"));
  const uint64_t inode = Inode("m", ".spare-1");

  const std::shared_ptr<Target> target = Provide("m", "u1", layout);
  ASSERT_NE(target, nullptr);
  EXPECT_EQ(target->prepared_bytes(), kBytes);
  EXPECT_THAT(Names("m"), ElementsAre(".incoming-u1"));
  EXPECT_EQ(Inode("m", ".incoming-u1"), inode) << "the memory that was made ready is the memory that is used";
  target->host_data()[0] = 'x';
  const std::string file = ReadTestFile(absl::StrCat(store_->data_dir(), "/m/.incoming-u1/model.safetensors"));
  EXPECT_EQ(file.size(), layout.file_bytes());
  EXPECT_TRUE(absl::StartsWith(file, EncodeSafetensorsHeader(layout)));
  EXPECT_EQ(file[layout.data_start], 'x');
  EXPECT_EQ(supply().SpareBytes("m"), 0u);
}

std::shared_ptr<const SafetensorsLayout> SharedLayout(const char* step) {
  return std::make_shared<const SafetensorsLayout>(
      LayOutSafetensors({ByteTensor("w", kBytes)}, {{"step", step}}).value());
}

TEST_F(ArenaSupplyTest, ASpareHasTheHeaderOfTheVersionBeforeUntilAnotherIsNeeded) {
  const auto before = SharedLayout("1");
  const std::shared_ptr<const SafetensorsLayout> nexts[] = {before, SharedLayout("2"), SharedLayout("1")};
  for (size_t i = 0; i < std::size(nexts); ++i) {
    const std::string spare = absl::StrCat(".spare-", i + 1);
    const std::string incoming = absl::StrCat(".incoming-u", i + 1);
    supply().MakeSpare("m", before, SlowTarget(std::unique_ptr<Target>()));
    ASSERT_TRUE(WaitFor([&] { return supply().SpareBytes("m") == kBytes; }));
    const uint64_t inode = Inode("m", spare);
    std::string header = EncodeSafetensorsHeader(*before);
    EXPECT_EQ(HeaderIn("m", spare, header.size()), header);
    // A blank before the data tells whether it is the one that was written with the spare.
    ASSERT_EQ(header.back(), ' ');
    header.back() = '\n';
    std::fstream(FileIn("m", spare), std::ios::in | std::ios::out | std::ios::binary) << header;
    if (nexts[i] != before) header = EncodeSafetensorsHeader(*nexts[i]);

    // Nobody has made the header's text yet.
    ASSERT_TRUE(supply().Provide("m", absl::StrCat("u", i + 1), nexts[i], /*header=*/"", "the test").ok());
    EXPECT_EQ(Inode("m", incoming), inode) << "the spare is what is used";
    EXPECT_EQ(HeaderIn("m", incoming, header.size()), header) << "next " << i;
  }
}

TEST_F(ArenaSupplyTest, ASpareDoesNotKeepTheLayoutOfTheVersionBefore) {
  auto before = SharedLayout("1");
  const std::weak_ptr<const SafetensorsLayout> weak = before;
  supply().MakeSpare("m", before, SlowTarget(std::unique_ptr<Target>()));
  before.reset();
  ASSERT_TRUE(WaitFor([&] { return supply().SpareBytes("m") == kBytes; }));
  EXPECT_TRUE(WaitFor([&] { return weak.expired(); }));
  // And is not taken to have the header of one that may lie where that lay.
  const auto next = SharedLayout("2");
  ASSERT_TRUE(supply().Provide("m", "u1", next, /*header=*/"", "the test").ok());
  const std::string header = EncodeSafetensorsHeader(*next);
  EXPECT_EQ(HeaderIn("m", ".incoming-u1", header.size()), header);
}

TEST_F(ArenaSupplyTest, ASpareIsUsedOnce) {
  const SafetensorsLayout layout = Layout(kBytes);
  MakeReadySpare("m", layout);
  const std::shared_ptr<Target> first = Provide("m", "u1", layout);
  const std::shared_ptr<Target> second = Provide("m", "u2", layout);
  EXPECT_NE(Inode("m", ".incoming-u1"), Inode("m", ".incoming-u2"));
}

TEST_F(ArenaSupplyTest, ASpareThatDoesNotFitIsDropped) {
  MakeReadySpare("m", Layout(kBytes));
  const std::shared_ptr<Target> target = Provide("m", "u1", Layout(kBytes + 4096));
  ASSERT_NE(target, nullptr);
  EXPECT_EQ(target->bytes(), kBytes + 4096);
  EXPECT_THAT(Names("m"), ElementsAre(".incoming-u1"));
}

TEST_F(ArenaSupplyTest, ASpareServesItsOwnModelOnly) {
  MakeReadySpare("m", Layout(kBytes));
  ASSERT_NE(Provide("other", "u1", Layout(kBytes)), nullptr);
  EXPECT_THAT(Names("m"), ElementsAre(".spare-1"));
}

TEST_F(ArenaSupplyTest, SparesGoTheOldestFirstWhenAnUpdateNeedsTheRoom) {
  MakeReadySpare("a", Layout(kBytes));
  MakeReadySpare("b", Layout(kBytes));
  // As if the first spare took the last room.
  promised_ = [this] { return supply().SpareBytes("a") > 0 ? uint64_t{1} << 60 : 0; };
  ASSERT_NE(Provide("c", "u1", Layout(kBytes)), nullptr);
  EXPECT_THAT(Names("a"), IsEmpty());
  EXPECT_THAT(Names("b"), ElementsAre(".spare-2"));
}

TEST_F(ArenaSupplyTest, WithoutRoomEvenThenTheErrorSaysWhatIsNeededAndFree) {
  MakeReadySpare("a", Layout(kBytes));
  promised_ = [] { return uint64_t{1} << 60; };
  const auto refused = supply().Provide("m", "u1", std::make_shared<const SafetensorsLayout>(Layout(kBytes)), "",
                                        "version 1 of model 'm'");
  ExpectError(refused.status(), StatusCode::kResourceExhausted,
              {"version 1 of model 'm' needs", absl::StrCat(Layout(kBytes).file_bytes()), store_->data_dir(),
               "promised to updates in flight", "--keep-versions"});
  EXPECT_THAT(Names("a"), IsEmpty());
}

TEST_F(ArenaSupplyTest, NoSpareIsMadeWithoutRoom) {
  std::atomic<bool> full{true};
  promised_ = [&full] { return full.exchange(false) ? uint64_t{1} << 60 : 0; };
  MakeSpare("m", Layout(kBytes));
  ASSERT_TRUE(WaitFor([&] { return !full; }));
  MakeReadySpare("other", Layout(kBytes));
  EXPECT_EQ(supply().SpareBytes("m"), 0u);
  ASSERT_NE(Provide("m", "u1", Layout(kBytes)), nullptr) << "and the next update goes on without";
}

TEST_F(ArenaSupplyTest, AFreshArenaIsTouchedAheadOfWhatIsReceived) {
  const std::shared_ptr<Target> target = Provide("m", "u1", Layout(kBytes));
  ASSERT_NE(target, nullptr);
  EXPECT_TRUE(WaitFor([&] { return target->prepared_bytes() == kBytes; }));
}

TEST_F(ArenaSupplyTest, AnArenaThatIsGivenUpIsNotKeptAlive) {
  std::weak_ptr<Target> weak;
  {
    const std::shared_ptr<Target> target = Provide("m", "u1", Layout(kBytes));
    weak = target;
  }
  EXPECT_TRUE(WaitFor([&] { return weak.expired(); }));
}

TEST_F(ArenaSupplyTest, TurnedOffItDoesNothingAhead) {
  work_ahead_ = false;
  MakeSpare("m", Layout(kBytes));
  const std::shared_ptr<Target> target = Provide("m", "u1", Layout(kBytes));
  ASSERT_NE(target, nullptr);
  EXPECT_EQ(target->prepared_bytes(), 0u);
  EXPECT_THAT(Names("m"), ElementsAre(".incoming-u1"));
}

TEST_F(ArenaSupplyTest, MemoryThatCostsNothingToTouchGetsNoSpare) {
  const auto cheap = MemoryUpdate({ByteTensor("w", 10)});
  supply().MakeSpare("m", cheap->shared_layout(), cheap->target());
  MakeReadySpare("other", Layout(kBytes));
  EXPECT_EQ(supply().SpareBytes("m"), 0u);
}

TEST_F(ArenaSupplyTest, AnUpdateThatNeedsTheRoomWaitsForWhatIsBeingFreed) {
  std::atomic<bool> freed{false};
  promised_ = [&freed] { return freed ? 0 : uint64_t{1} << 60; };
  absl::Notification asked;
  supply().InBackground([&] {
    asked.WaitForNotification();
    freed = true;
  });
  std::thread asker([&] { EXPECT_NE(Provide("m", "u1", Layout(kBytes)), nullptr); });
  asked.Notify();
  asker.join();
}

TEST_F(ArenaSupplyTest, ItDoesNotWaitForAStuckMediumForEver) {
  patience_ = absl::Milliseconds(20);
  promised_ = [] { return uint64_t{1} << 60; };
  absl::Notification asked;
  supply().InBackground([&] { asked.WaitForNotification(); });
  const auto refused = supply().Provide("m", "u1", std::make_shared<const SafetensorsLayout>(Layout(kBytes)), "",
                                        "version 1 of model 'm'");
  ExpectError(refused.status(), StatusCode::kUnavailable, {store_->data_dir(), "try again later"});
  asked.Notify();
  // Waits for the job, which holds what lies here.
  supply_.reset();
}

TEST_F(ArenaSupplyTest, TheEndWaitsForWhatWasLeftToDoInTheirOrder) {
  std::vector<int> order;
  supply().InBackground([&] { order.push_back(1); });
  supply().InBackground([&] { order.push_back(2); });
  supply_.reset();
  EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST_F(ArenaSupplyTest, TheEndRemovesSpares) {
  MakeReadySpare("m", Layout(kBytes));
  MakeSpare("n", Layout(kBytes));
  supply_.reset();
  EXPECT_THAT(Names("m"), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(absl::StrCat(store_->data_dir(), "/n/.spare-2")));
}

}  // namespace
}  // namespace weightstream
