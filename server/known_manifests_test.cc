#include "server/known_manifests.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

std::shared_ptr<const KnownManifest> Manifest(size_t wire_bytes, SafetensorsLayout layout = {}) {
  KnownManifest manifest;
  manifest.wire = std::make_shared<const std::string>(wire_bytes, 'w');
  manifest.layout = std::make_shared<const SafetensorsLayout>(std::move(layout));
  return std::make_shared<const KnownManifest>(manifest);
}

constexpr size_t kWireBytes = 10'000;
// What one of these takes.
const uint64_t kOneBytes = BytesToKeep("a", *Manifest(kWireBytes));

TEST(KnownManifests, TheLastOfEachModel) {
  KnownManifests known(10 * kOneBytes);
  EXPECT_EQ(known.Find("a"), nullptr);
  const auto first = Manifest(10);
  const auto second = Manifest(20);
  const auto other = Manifest(30);
  known.Keep("a", first);
  known.Keep("b", other);
  EXPECT_EQ(known.Find("a"), first);
  known.Keep("a", second);
  EXPECT_EQ(known.Find("a"), second);
  EXPECT_EQ(known.Find("b"), other);
  EXPECT_EQ(first.use_count(), 1) << "replaced, and kept all the same";
}

TEST(KnownManifests, WhatWasNotUsedForLongestIsForgottenForNewOnes) {
  KnownManifests known(2 * kOneBytes);
  for (const char* model : {"a", "b"}) known.Keep(model, Manifest(kWireBytes));
  known.Used("a");
  // To look is not to use.
  EXPECT_NE(known.Find("b"), nullptr);
  known.Keep("c", Manifest(kWireBytes));
  EXPECT_NE(known.Find("a"), nullptr);
  EXPECT_EQ(known.Find("b"), nullptr);
  EXPECT_NE(known.Find("c"), nullptr);
  // All the room that there is.
  known.Keep("d", Manifest(kWireBytes + kOneBytes));
  EXPECT_EQ(known.Find("a"), nullptr);
  EXPECT_EQ(known.Find("c"), nullptr);
  EXPECT_NE(known.Find("d"), nullptr);
}

TEST(KnownManifests, OneThatIsTooLargeIsNotKeptNorIsTheOneBefore) {
  KnownManifests known(2 * kOneBytes);
  known.Keep("a", Manifest(kWireBytes));
  known.Keep("b", Manifest(kWireBytes));
  known.Keep("a", Manifest(kWireBytes + kOneBytes + 1));
  EXPECT_EQ(known.Find("a"), nullptr);
  EXPECT_NE(known.Find("b"), nullptr);
}

TEST(KnownManifests, AForgottenModelLeavesNothingAndMakesRoom) {
  KnownManifests known(2 * kOneBytes);
  const auto manifest = Manifest(kWireBytes);
  known.Keep("a", manifest);
  known.Keep("b", Manifest(kWireBytes));
  EXPECT_EQ(known.Forget("a"), manifest);
  EXPECT_EQ(manifest.use_count(), 1);
  EXPECT_EQ(known.Find("a"), nullptr);
  EXPECT_EQ(known.Forget("a"), nullptr);
  known.Keep("c", Manifest(kWireBytes));
  EXPECT_NE(known.Find("b"), nullptr) << "what was forgotten counts no more";
  EXPECT_NE(known.Find("c"), nullptr);
}

TEST(KnownManifests, AllThatAManifestHoldsCounts) {
  constexpr uint64_t kLarge = 100'000;
  SafetensorsLayout value;
  value.metadata["note"] = std::string(kLarge, 'v');
  SafetensorsLayout key;
  key.metadata[std::string(kLarge, 'k')] = "";
  SafetensorsLayout name;
  name.tensors.resize(1);
  name.tensors[0].spec.name = std::string(kLarge, 'n');
  SafetensorsLayout shape;
  shape.tensors.resize(1);
  shape.tensors[0].spec.shape = std::vector<uint64_t>(kLarge / sizeof(uint64_t), 1);
  SafetensorsLayout room;
  room.tensors.reserve(kLarge / sizeof(PlacedTensor) + 1);
  SafetensorsLayout pairs;
  for (uint64_t i = 0; i < kLarge / (2 * sizeof(std::string)); ++i) pairs.metadata[absl::StrCat(i)] = "";
  for (const SafetensorsLayout& layout : {value, key, name, shape, pairs}) {
    EXPECT_GE(BytesToKeep("a", *Manifest(0, layout)), kLarge);
    KnownManifests known(kLarge);
    known.Keep("a", Manifest(0, layout));
    EXPECT_EQ(known.Find("a"), nullptr);
  }
  // What a vector has reserved is not copied.
  EXPECT_GE(BytesToKeep("a", *Manifest(0, std::move(room))), kLarge);
  EXPECT_GE(BytesToKeep("a", *Manifest(kLarge)), kLarge);
  EXPECT_GE(BytesToKeep(std::string(kLarge, 'm'), *Manifest(0)), kLarge);
}

}  // namespace
}  // namespace weightstream
