#include "proto/status.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace weightstream {
namespace {

std::string Repeat(absl::string_view text, size_t times) {
  std::string result;
  for (size_t i = 0; i < times; ++i) absl::StrAppend(&result, text);
  return result;
}

std::string SentMessage(const std::string& message) {
  return ToGrpcStatus(absl::InternalError(message)).error_message();
}

TEST(StatusTest, EveryCodeKeepsItsNumberAndMessageBothWays) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), absl::StrCat("code ", code));
    const grpc::Status sent = ToGrpcStatus(status);
    EXPECT_EQ(static_cast<int>(sent.error_code()), code);
    EXPECT_EQ(sent.error_message(), absl::StrCat("code ", code));
    EXPECT_EQ(FromGrpcStatus(sent), status);
  }
}

TEST(StatusTest, NamedCodesMeanTheSame) {
  EXPECT_EQ(ToGrpcStatus(absl::DataLossError("x")).error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(ToGrpcStatus(absl::UnauthenticatedError("x")).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(absl::IsAborted(FromGrpcStatus(grpc::Status(grpc::StatusCode::ABORTED, "x"))));
}

TEST(StatusTest, OkIsOkWithoutMessage) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).error_message().empty());
  EXPECT_EQ(FromGrpcStatus(grpc::Status(grpc::StatusCode::OK, "ignored")), absl::OkStatus());
}

TEST(StatusTest, NumbersThatAreNoCodeBecomeUnknown) {
  // Larger numbers are none that the enumeration can hold.
  for (int code : {-1, 17, 31}) {
    const absl::Status status = FromGrpcStatus(grpc::Status(static_cast<grpc::StatusCode>(code), "odd"));
    EXPECT_EQ(status.raw_code(), static_cast<int>(absl::StatusCode::kUnknown)) << code;
    EXPECT_EQ(status.message(), "odd");
  }
  EXPECT_EQ(ToGrpcStatus(absl::Status(static_cast<absl::StatusCode>(99), "odd")).error_code(),
            grpc::StatusCode::UNKNOWN);
}

TEST(StatusTest, MessageOfTheLimitIsWholeAndOneByteMoreIsCut) {
  EXPECT_EQ(SentMessage(std::string(4096, 'a')), std::string(4096, 'a'));
  EXPECT_EQ(SentMessage(std::string(4097, 'a')), std::string(4096, 'a'));
  EXPECT_EQ(SentMessage(std::string(1 << 20, 'a')), std::string(4096, 'a'));
}

TEST(StatusTest, CutFallsBetweenCharacters) {
  // 4 ASCII bytes more or less move the cut through every place in a character of 2, 3 and 4 bytes.
  for (absl::string_view character : {"\u00e9", "\u20ac", "\U0001f600"}) {
    for (size_t shift = 0; shift < 12; ++shift) {
      const std::string prefix(shift, 'a');
      const size_t whole = (kMaxStatusMessageBytes - shift) / (3 * character.size());
      EXPECT_EQ(SentMessage(absl::StrCat(prefix, Repeat(character, 4096))),
                absl::StrCat(prefix, Repeat(character, whole)))
          << character << " after " << shift;
    }
  }
}

TEST(StatusTest, CutCountsWhatPercentEncodingMakesOfTheMessage) {
  EXPECT_EQ(SentMessage(std::string(5000, '%')), std::string(1365, '%'));
  EXPECT_EQ(SentMessage(std::string(5000, '\n')), std::string(1365, '\n'));
}

TEST(StatusTest, MessageThatIsNoUtf8IsCutToo) {
  EXPECT_LE(SentMessage(std::string(5000, '\x80')).size(), 1365u);
  EXPECT_GE(SentMessage(std::string(5000, '\x80')).size(), 1362u);
}

}  // namespace
}  // namespace weightstream
