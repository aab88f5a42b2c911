#include "server/peer_rates.h"

#include "gtest/gtest.h"

namespace weightstream {
namespace {

constexpr absl::Duration kStart = absl::Hours(1);

TEST(PeerRatesTest, WithoutALimitThereIsNoBucket) { EXPECT_EQ(PeerRates(0).BucketOf("a", kStart), nullptr); }

TEST(PeerRatesTest, ASecondsWorthGoesAtOnceAndWhatIsOverWaits) {
  PeerRates rates(1000);
  const auto bucket = rates.BucketOf("a", kStart);
  EXPECT_EQ(bucket->Charge(1000, kStart), absl::ZeroDuration());
  EXPECT_EQ(bucket->Charge(500, kStart), absl::Milliseconds(500));
  // Another call of the peer waits for both.
  EXPECT_EQ(rates.BucketOf("a", kStart)->Charge(250, kStart), absl::Milliseconds(750));
  EXPECT_EQ(bucket->Charge(100, kStart + absl::Milliseconds(750)), absl::Milliseconds(100));
}

TEST(PeerRatesTest, WhatIsSavedIsASecondsWorthHoweverLongThePause) {
  PeerRates rates(1000);
  const auto bucket = rates.BucketOf("a", kStart);
  bucket->Charge(1000, kStart);
  EXPECT_EQ(bucket->Charge(1001, kStart + absl::Hours(5)), absl::Milliseconds(1));
}

TEST(PeerRatesTest, PeersDoNotPayForEachOther) {
  PeerRates rates(1000);
  const auto spent = rates.BucketOf("a", kStart);
  EXPECT_GT(spent->Charge(100'000, kStart), absl::Minutes(1));
  EXPECT_LE(rates.BucketOf("b", kStart)->Charge(1000, kStart), absl::ZeroDuration());
}

TEST(PeerRatesTest, ANewCallDoesNotPayThePeersDebts) {
  PeerRates rates(1000);
  rates.BucketOf("a", kStart)->Charge(5000, kStart);
  rates.BucketOf("b", kStart)->Charge(1, kStart);
  EXPECT_EQ(rates.BucketOf("a", kStart)->Charge(0, kStart), absl::Seconds(4));
}

TEST(PeerRatesTest, ABucketIsForgottenOnceItIsFullAgain) {
  PeerRates rates(1000);
  auto held = rates.BucketOf("a", kStart);
  held->Charge(5000, kStart);
  const std::weak_ptr<PeerRates::Bucket> watched = held;
  held.reset();
  rates.BucketOf("b", kStart + absl::Seconds(4));
  EXPECT_FALSE(watched.expired()) << "a second's worth is still to be saved";
  rates.BucketOf("c", kStart + absl::Seconds(5));
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace weightstream
