// What a model makes of a manifest that an update of it began with before.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/checksum.h"
#include "kernels/host_device.h"
#include "server/file_versions.h"
#include "server/known_manifests.h"
#include "server/model.h"
#include "server/test_update.h"
#include "tensor/safetensors_layout.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

class ModelKnownManifestTest : public testing::Test {
 protected:
  // With a manifest that is read.
  static BeginParams Params(uint64_t version) {
    BeginParams params;
    params.version = version;
    params.tensors = {ByteTensor("a", 100), ByteTensor("b", 50)};
    params.source_id = "s";
    return params;
  }

  // The same, where an update began with these tensors and these metadata before.
  static BeginParams KnownParams(uint64_t version, const Metadata& metadata = {}) {
    BeginParams params = Params(version);
    KnownManifest known;
    known.wire = std::make_shared<const std::string>("as it came");
    known.layout = std::make_shared<const SafetensorsLayout>(
        LayOutSafetensors(std::exchange(params.tensors, {}), metadata).value());
    known.crc32c = ExtendCrc32c(0, EncodeSafetensorsHeader(*known.layout));
    params.known = std::make_shared<const KnownManifest>(known);
    params.metadata = metadata;
    return params;
  }

  absl::StatusOr<BegunUpdate> Begin(BeginParams params) {
    return model_.Begin(absl::StrCat("u", next_id_++), std::move(params));
  }

  // Fills the update and commits it.
  void ExpectHeaderWhenCommitted(Update& update, const std::string& header) {
    FillUpdate(update, 1);
    const auto record = model_.Commit(update.identity().id);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(ReadTestFile(record->path).substr(0, header.size()), header);
  }

  const std::unique_ptr<ModelStore> store_ = ModelStore::Open(MakeTestFolder()).value();
  const std::unique_ptr<Device> device_ = NewHostDevice();
  Limits limits_;
  Metrics metrics_;
  FileVersions medium_{*store_, *device_, {}};
  UpdateSlots slots_{1};
  Model model_{StoredModel{"m", 0, {}},
               {.medium = &medium_, .limits = &limits_, .metrics = &metrics_, .slots = &slots_}};
  int next_id_ = 1;
};

TEST_F(ModelKnownManifestTest, WithTheSameMetadataItIsNotLaidOutAgain) {
  const BeginParams known = KnownParams(1, {{"step", "1"}});
  const auto begun = Begin(known);
  ASSERT_TRUE(begun.ok()) << begun.status();
  EXPECT_EQ(begun->update->shared_layout(), known.known->layout);
  EXPECT_EQ(begun->update->manifest_crc32c(), known.known->crc32c);
  ExpectHeaderWhenCommitted(*begun->update, EncodeSafetensorsHeader(*known.known->layout));
}

TEST_F(ModelKnownManifestTest, WithOtherMetadataItIsLaidOutWithThose) {
  BeginParams known = KnownParams(1, {{"step", "1"}});
  known.metadata = {{"step", "2"}};
  const auto begun = Begin(known);
  ASSERT_TRUE(begun.ok()) << begun.status();
  const SafetensorsLayout expected = LayOutSafetensors(Params(1).tensors, {{"step", "2"}}).value();
  EXPECT_NE(begun->update->shared_layout(), known.known->layout);
  EXPECT_EQ(begun->update->layout(), expected);
  EXPECT_EQ(begun->update->manifest_crc32c(), ExtendCrc32c(0, EncodeSafetensorsHeader(expected)));
  EXPECT_EQ(known.known->layout->metadata, (Metadata{{"step", "1"}})) << "what others share does not change";
  ExpectHeaderWhenCommitted(*begun->update, EncodeSafetensorsHeader(expected));
}

TEST_F(ModelKnownManifestTest, ItKeepsToTheLimits) {
  limits_.manifest_tensors = 1;
  ExpectError(Begin(KnownParams(1)).status(), StatusCode::kResourceExhausted, {"2 tensors", "--max-manifest-tensors"});
  limits_.manifest_tensors = 2;
  limits_.model_bytes = 149;
  ExpectError(Begin(KnownParams(1)).status(), StatusCode::kResourceExhausted, {"150 bytes", "--max-model-gib"});
  limits_.model_bytes = 150;
  EXPECT_TRUE(Begin(KnownParams(1)).ok());
}

TEST_F(ModelKnownManifestTest, ItResumesWhatItBeganAndWhatItDidNot) {
  const BeginParams known = KnownParams(1);
  const auto first = Begin(known);
  ASSERT_TRUE(first.ok()) << first.status();
  // Itself, its like, and what is read.
  for (const BeginParams& params : {known, KnownParams(1), Params(1)}) {
    const auto resumed = Begin(params);
    ASSERT_TRUE(resumed.ok()) << resumed.status();
    EXPECT_TRUE(resumed->resumed);
    EXPECT_EQ(resumed->update, first->update);
  }
  BeginParams other = known;
  other.metadata = {{"step", "2"}};
  const auto begun = Begin(other);
  ASSERT_TRUE(begun.ok()) << begun.status();
  EXPECT_FALSE(begun->resumed);
  ExpectError(first->update->ReceivingStatus(), StatusCode::kAborted, {"with another manifest"});
  const auto read = Begin(Params(1));
  ASSERT_TRUE(read.ok()) << read.status();
  const auto resumed = Begin(KnownParams(1));
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_TRUE(resumed->resumed);
  EXPECT_EQ(resumed->update, read->update);
}

}  // namespace
}  // namespace weightstream
