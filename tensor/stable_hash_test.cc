#include "tensor/stable_hash.h"

#include "gtest/gtest.h"

namespace weightstream {
namespace {

std::string HashOf(absl::string_view bytes) {
  StableHash hash;
  hash.AddBytes(bytes);
  return hash.Hex();
}

TEST(StableHash, IsFnv1aAsPublished) {
  EXPECT_EQ(HashOf(""), "6c62272e07bb014262b821756295c58d");
  EXPECT_EQ(HashOf("a"), "d228cb696f1a8caf78912b704e4a8964");
  EXPECT_EQ(HashOf("foobar"), "343e1662793c64bf6f0d3597ba446f18");
}

TEST(StableHash, TellsWhereOneStringEndsAndTheNextStarts) {
  StableHash ab_c;
  ab_c.AddString("ab");
  ab_c.AddString("c");
  StableHash a_bc;
  a_bc.AddString("a");
  a_bc.AddString("bc");
  EXPECT_NE(ab_c.Hex(), a_bc.Hex());
}

TEST(StableHash, NumbersAreEightLittleEndianBytes) {
  StableHash number;
  number.AddNumber(0x0102030405060708);
  EXPECT_EQ(number.Hex(), HashOf("\x08\x07\x06\x05\x04\x03\x02\x01"));
}

}  // namespace
}  // namespace weightstream
