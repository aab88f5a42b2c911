#include "server/authorizer.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/log.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::HasSubstr;
using testing::Not;

const char kReader[] = "reader-0123456789";
const char kPusher[] = "pusher-0123456789";
const char kAdmin[] = "admin-00123456789";

Evidence Token(const std::string& token) { return {{"Bearer " + token}, {}}; }

class AuthorizerTest : public testing::Test {
 protected:
  AuthorizerTest() {
    Write(absl::StrCat("read * token:", kReader, "\npush a,b token:", kPusher, "\nadmin * token:", kAdmin,
                       "\nread c subject:client.example\n"));
    auto authorizer = Authorizer::Load(path_);
    EXPECT_TRUE(authorizer.ok()) << authorizer.status();
    authorizer_ = *std::move(authorizer);
  }

  void LookTwice() {
    authorizer_->Reload();
    authorizer_->Reload();
  }
  void Write(const std::string& text) { WriteTestFile(path_, text); }
  StatusCode Code(const Evidence& evidence, absl::string_view method, absl::string_view model) {
    return authorizer_->Check(evidence, method, model).code();
  }

  const std::string path_ = absl::StrCat(MakeTestFolder(), "/tokens");
  std::unique_ptr<Authorizer> authorizer_;
};

TEST_F(AuthorizerTest, EachRoleMayDoWhatThoseBeforeItMay) {
  EXPECT_EQ(Code(Token(kReader), "Pull", "x"), StatusCode::kOk);
  EXPECT_EQ(Code(Token(kReader), "BeginUpdate", "a"), StatusCode::kPermissionDenied);
  EXPECT_EQ(Code(Token(kPusher), "Pull", "a"), StatusCode::kOk);
  EXPECT_EQ(Code(Token(kPusher), "CommitUpdate", "b"), StatusCode::kOk);
  EXPECT_EQ(Code(Token(kPusher), "RollbackModel", "a"), StatusCode::kPermissionDenied);
  for (const char* method : {"Pull", "Push", "RollbackModel"}) {
    EXPECT_EQ(Code(Token(kAdmin), method, "any"), StatusCode::kOk) << method;
  }
}

TEST_F(AuthorizerTest, AModelThatIsNotListedIsDeniedAndTheMessageSaysWhatIsNeeded) {
  ExpectError(authorizer_->Check(Token(kPusher), "BeginUpdate", "c"), StatusCode::kPermissionDenied,
              {"BeginUpdate", "'c'", "needs the role push", "no role on that model"});
  ExpectError(authorizer_->Check(Token(kReader), "Push", "c"), StatusCode::kPermissionDenied,
              {"Push", "'c'", "needs the role push", "has the role read"});
  EXPECT_EQ(Code(Token(kPusher), "ListModels", ""), StatusCode::kOk) << "of the models that it has";
}

TEST_F(AuthorizerTest, WithoutATokenThatIsKnownACallerIsNobody) {
  for (const Evidence& nobody : std::vector<Evidence>{{},
                                                      Token("unknown-0123456789"),
                                                      Token(""),
                                                      {{"Basic abc"}, {}},
                                                      {{kReader}, {}},
                                                      {{std::string("Bearer ") + kReader, "Bearer x"}, {}}}) {
    const absl::Status status = authorizer_->Check(nobody, "Pull", "a");
    EXPECT_EQ(status.code(), StatusCode::kUnauthenticated) << status;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("0123456789"))) << "no token is quoted";
  }
  EXPECT_EQ(authorizer_->Check({{std::string("bearer ") + kReader}, {}}, "Pull", "a").code(), StatusCode::kOk)
      << "the scheme's case does not matter (RFC 7235)";
}

TEST_F(AuthorizerTest, ACertificatesNamesAreACredentialToo) {
  const std::vector<std::string> names = {"Client One", "client.example"};
  EXPECT_EQ(Code({{}, names}, "Pull", "c"), StatusCode::kOk);
  EXPECT_EQ(Code({{}, names}, "Pull", "a"), StatusCode::kPermissionDenied);
  EXPECT_EQ(Code({{}, {"other.example"}}, "Pull", "c"), StatusCode::kUnauthenticated);
  EXPECT_EQ(Code({Token(kPusher).authorization, names}, "Pull", "c"), StatusCode::kOk) << "both add up";
  EXPECT_EQ(Code({{"Bearer unknown-0123456789"}, names}, "Pull", "c"), StatusCode::kUnauthenticated);
}

TEST_F(AuthorizerTest, ANewFileHoldsAndABrokenOneDoesNot) {
  const uint64_t before = authorizer_->generation();
  LookTwice();
  EXPECT_EQ(authorizer_->generation(), before) << "nothing changed";
  Write("read * token:next-000123456789\n");
  LookTwice();
  EXPECT_GT(authorizer_->generation(), before);
  EXPECT_EQ(Code(Token("next-000123456789"), "Pull", "a"), StatusCode::kOk);
  EXPECT_EQ(Code(Token(kReader), "Pull", "a"), StatusCode::kUnauthenticated);
  for (const std::string& broken : {std::string(), std::string("read *\n"), std::string("# none\n")}) {
    Write(broken);
    LookTwice();
    EXPECT_EQ(Code(Token("next-000123456789"), "Pull", "a"), StatusCode::kOk) << broken;
  }
  ASSERT_EQ(unlink(path_.c_str()), 0);
  LookTwice();
  EXPECT_EQ(Code(Token("next-000123456789"), "Pull", "a"), StatusCode::kOk);
  Write(absl::StrCat("read * token:", kReader, "\n"));
  LookTwice();
  EXPECT_EQ(Code(Token(kReader), "Pull", "a"), StatusCode::kOk);
}

TEST_F(AuthorizerTest, AFileThatIsBeingWrittenIsNotTaken) {
  const std::string next = absl::StrCat("read * token:next-000123456789\nadmin * token:", kAdmin, "\n");
  for (size_t bytes = 1; bytes < next.size(); ++bytes) {
    Write(next.substr(0, bytes));
    authorizer_->Reload();
    EXPECT_EQ(Code(Token(kReader), "Pull", "a"), StatusCode::kOk) << "the rules before hold at byte " << bytes;
    EXPECT_EQ(Code(Token(kAdmin), "RollbackModel", "a"), StatusCode::kOk) << bytes;
  }
  Write(next);
  authorizer_->Reload();
  EXPECT_EQ(Code(Token(kReader), "Pull", "a"), StatusCode::kOk) << "seen once";
  authorizer_->Reload();
  EXPECT_EQ(Code(Token(kReader), "Pull", "a"), StatusCode::kUnauthenticated) << "seen twice";
  EXPECT_EQ(Code(Token("next-000123456789"), "Pull", "a"), StatusCode::kOk);
}

TEST_F(AuthorizerTest, AFileWithoutItsLastNewlineStaysOut) {
  Write("admin * subject:ops.example\nadmin * subject:ops");
  LookTwice();
  EXPECT_EQ(Code(Token(kReader), "Pull", "a"), StatusCode::kOk) << "the rules before";
  EXPECT_EQ(Code({{}, {"ops"}}, "Pull", "a"), StatusCode::kUnauthenticated);
}

TEST_F(AuthorizerTest, RefusalsOfOnePeerAreALineInTenSeconds) {
  testing::internal::CaptureStderr();
  EXPECT_TRUE(StartLogging("info", LogFormat::kText).ok());
  for (int i = 0; i < 1000; ++i) {
    const std::string peer = absl::StrCat("ipv4:10.0.0.7:", 40000 + i);
    authorizer_->LogRefusal(peer, "Pull", "a", authorizer_->Check({}, "Pull", "a"));
  }
  authorizer_->LogRefusal("ipv4:10.0.0.8:40000", "Pull", "a", absl::UnauthenticatedError("no token"));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2) << log;
  EXPECT_THAT(log, HasSubstr("call_refused peer=ipv4:10.0.0.7:40000 method=Pull model=a error=\"UNAUTHENTICATED: "));
  EXPECT_THAT(log, HasSubstr("refused=1\n"));
  EXPECT_THAT(log, HasSubstr("call_refused peer=ipv4:10.0.0.8:40000"));
}

TEST(AuthorizerLoadTest, AFileThatIsNotSoundIsNamedWithItsLine) {
  const std::string path = absl::StrCat(MakeTestFolder(), "/tokens");
  ExpectError(Authorizer::Load(path).status(), StatusCode::kFailedPrecondition,
              {"--auth-token-file=" + path, "No such file"});
  WriteTestFile(path, "# ours\nread * secret-0123456789\n");
  const absl::Status status = Authorizer::Load(path).status();
  ExpectError(status, StatusCode::kFailedPrecondition, {"--auth-token-file=" + path, "line 2", "docs/security.md"});
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret-")));
  WriteTestFile(path, "# ours\nread * token:secret-0123456789");
  ExpectError(Authorizer::Load(path).status(), StatusCode::kFailedPrecondition,
              {"--auth-token-file=" + path, "line 2", "may be cut off", "newline"});
}

}  // namespace
}  // namespace weightstream
