#include "server/known_manifests.h"

#include <string>

#include "gtest/gtest.h"

namespace weightstream {
namespace {

std::shared_ptr<const KnownManifest> Manifest(size_t wire_bytes) {
  KnownManifest manifest;
  manifest.wire = std::make_shared<const std::string>(wire_bytes, 'w');
  manifest.layout = std::make_shared<const SafetensorsLayout>();
  return std::make_shared<const KnownManifest>(manifest);
}

TEST(KnownManifests, TheLastOfEachModel) {
  KnownManifests known(1000);
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
  KnownManifests known(100);
  for (const char* model : {"a", "b"}) known.Keep(model, Manifest(20));
  ASSERT_NE(known.Find("a"), nullptr);
  known.Keep("c", Manifest(20));
  EXPECT_NE(known.Find("a"), nullptr);
  EXPECT_EQ(known.Find("b"), nullptr);
  EXPECT_NE(known.Find("c"), nullptr);
  // Each counts twice what came, so this takes all the room that there is.
  known.Keep("d", Manifest(50));
  EXPECT_EQ(known.Find("a"), nullptr);
  EXPECT_EQ(known.Find("c"), nullptr);
  EXPECT_NE(known.Find("d"), nullptr);
}

TEST(KnownManifests, OneThatIsTooLargeIsNotKeptNorIsTheOneBefore) {
  KnownManifests known(100);
  known.Keep("a", Manifest(20));
  known.Keep("b", Manifest(20));
  known.Keep("a", Manifest(51));
  EXPECT_EQ(known.Find("a"), nullptr);
  EXPECT_NE(known.Find("b"), nullptr);
}

}  // namespace
}  // namespace weightstream
