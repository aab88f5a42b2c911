#include "server/reload_complaint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/log.h"

namespace weightstream {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ReloadComplaintTest : public ::testing::Test {
 protected:
  std::string LoggedBy(const absl::Status& outcome) {
    ::testing::internal::CaptureStderr();
    EXPECT_TRUE(StartLogging("info", LogFormat::kText).ok());
    complaint_.Note(outcome);
    return ::testing::internal::GetCapturedStderr();
  }

  ReloadComplaint complaint_{"file_not_reloaded", "the one read before stays in use"};
};

TEST_F(ReloadComplaintTest, SaysTheSameOnce) {
  const absl::Status broken = absl::InvalidArgumentError("line 1 is broken");
  const std::string line = LoggedBy(broken);
  for (const char* word : {"error file_not_reloaded", "line 1 is broken", "the one read before stays in use"}) {
    EXPECT_THAT(line, HasSubstr(word));
  }
  EXPECT_THAT(LoggedBy(broken), IsEmpty());
}

TEST_F(ReloadComplaintTest, SaysWhatIsNewAndWhatIsBrokenAgain) {
  EXPECT_THAT(LoggedBy(absl::OkStatus()), IsEmpty());
  EXPECT_THAT(LoggedBy(absl::NotFoundError("gone")), HasSubstr("gone"));
  EXPECT_THAT(LoggedBy(absl::InvalidArgumentError("broken")), HasSubstr("broken"));
  EXPECT_THAT(LoggedBy(absl::OkStatus()), IsEmpty());
  EXPECT_THAT(LoggedBy(absl::InvalidArgumentError("broken")), HasSubstr("broken"));
}

}  // namespace
}  // namespace weightstream
