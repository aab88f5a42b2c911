#include "security/token.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(TokenTest, TheDigestIsWhatSha256sumPrints) {
  // printf %s abc | sha256sum: the standard's own example.
  const auto digest = ParseDigest("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_TRUE(SameDigest(*digest, DigestOf("abc")));
  EXPECT_FALSE(SameDigest(*digest, DigestOf("abd")));
  for (const char* bad : {"", "ba78", "zz7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad00"}) {
    EXPECT_FALSE(ParseDigest(bad).ok()) << bad;
  }
}

TEST(TokenTest, WhatCanTravelInAHeaderAndIsNotGuessedIsAToken) {
  EXPECT_TRUE(ValidateToken("0123456789abcdef").ok());
  EXPECT_TRUE(ValidateToken("eyJhbGciOi.eyJpc3Mi-_~+/x==").ok());
  for (const std::string& bad : {std::string(), std::string("short"), std::string(16, '='), std::string(4097, 'x'),
                                 std::string("0123456789 abcdef"), std::string("0123456789=abcdef"),
                                 std::string("0123456789abcde\n"), std::string("0123456789abcde\xc3\xa9")}) {
    EXPECT_FALSE(ValidateToken(bad).ok()) << bad;
  }
}

TEST(TokenTest, AFileIsReadWithoutTheSpaceAroundItAndNeverQuoted) {
  const std::string path = absl::StrCat(MakeTestFolder(), "/token");
  WriteTestFile(path, "  0123456789abcdef\n\n");
  EXPECT_EQ(ReadToken("auth-token-file", path).value(), "0123456789abcdef");
  WriteTestFile(path, "0123456789abcdef\nfedcba9876543210\n");
  const absl::Status two = ReadToken("auth-token-file", path).status();
  EXPECT_EQ(two.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(two.message()), HasSubstr("--auth-token-file=" + path));
  EXPECT_THAT(std::string(two.message()), Not(HasSubstr("0123")));
  EXPECT_FALSE(ReadToken("auth-token-file", path + ".none").ok());
}

}  // namespace
}  // namespace weightstream
