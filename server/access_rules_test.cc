#include "server/access_rules.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const char kToken[] = "0123456789abcdef";
// Of kToken.
const char kDigest[] = "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f";

TEST(AccessRulesTest, EveryMethodOfTheServiceHasARole) {
  const auto* service =
      google::protobuf::DescriptorPool::generated_pool()->FindServiceByName("weightstream.v1.WeightStream");
  ASSERT_NE(service, nullptr);
  ASSERT_GE(service->method_count(), 11);
  for (int i = 0; i < service->method_count(); ++i) {
    EXPECT_TRUE(RoleNeeded(service->method(i)->name()).has_value())
        << service->method(i)->name() << " is missing in the table of access_rules.cc: nobody may call it";
  }
  EXPECT_FALSE(RoleNeeded("Nonsense").has_value());
}

TEST(AccessRulesTest, TheRolesAreThoseOfTheDocumentation) {
  for (const char* read : {"Pull", "GetManifest", "DigestModel", "GetModel", "ListModels", "WatchModel"}) {
    EXPECT_EQ(RoleNeeded(read), Role::kRead) << read;
  }
  for (const char* push : {"BeginUpdate", "Push", "CommitUpdate", "AbortUpdate", "ExportTarget", "RegisterTargets"}) {
    EXPECT_EQ(RoleNeeded(push), Role::kPush) << push;
  }
  EXPECT_EQ(RoleNeeded("RollbackModel"), Role::kAdmin);
}

TEST(AccessRulesTest, ALineGivesARoleOnModelsToACredential) {
  const auto rules = AccessRules::Parse(absl::StrCat("# who\n\n push  a,b\ttoken:", kToken,
                                                     "  \r\nread * sha256:", kDigest, "\nadmin * subject:Ops Team\n"));
  ASSERT_TRUE(rules.ok()) << rules.status();
  EXPECT_EQ(rules->size(), 3u);
  const auto grants = rules->OfToken(kToken);
  ASSERT_EQ(grants.size(), 2u) << "the token itself, and its digest";
  EXPECT_EQ(grants[0]->role, Role::kPush);
  EXPECT_EQ(grants[0]->line, 3);
  EXPECT_TRUE(grants[0]->covers("a") && grants[0]->covers("b") && !grants[0]->covers("c") && !grants[0]->covers(""));
  EXPECT_EQ(grants[1]->role, Role::kRead);
  EXPECT_TRUE(grants[1]->covers("whatever"));
  EXPECT_TRUE(rules->OfToken("0123456789abcdeg").empty());
  EXPECT_TRUE(rules->OfToken(kDigest).empty()) << "the digest is no token";
  ASSERT_EQ(rules->OfSubjects({"x", "Ops Team"}).size(), 1u);
  EXPECT_EQ(rules->OfSubjects({"Ops Team"})[0]->role, Role::kAdmin);
  EXPECT_TRUE(rules->OfSubjects({"Ops", "ops team", ""}).empty());
}

TEST(AccessRulesTest, AWrongLineIsNamedWithoutItsCredential) {
  const std::string token = absl::StrCat(" token:", kToken);
  for (const std::string& bad :
       {std::string("write *") + token, std::string("read") + token, std::string("read a,,b") + token,
        std::string("read ../a") + token, std::string("admin a") + token, std::string("read * token:short-secret"),
        std::string("read * sha256:0123456789abcdef"), std::string("read * subject:"),
        std::string("read * 0123456789abcdef"), std::string("0123456789abcdef read *"), std::string("read *"),
        std::string("read, * ") + token}) {
    const absl::Status status = AccessRules::Parse(absl::StrCat("# first\n", bad, "\n")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("line 2: "), Not(HasSubstr("0123")), Not(HasSubstr("short"))))
        << bad;
  }
  EXPECT_FALSE(AccessRules::Parse("").ok());
  EXPECT_FALSE(AccessRules::Parse("# nobody\n\n").ok());
}

// What a grant gives, without where it stands.
std::vector<std::string> WhatIsGiven(const std::vector<const Grant*>& grants) {
  std::vector<std::string> given;
  for (const Grant* grant : grants) {
    given.push_back(absl::StrCat(RoleName(grant->role), " ", absl::StrJoin(grant->models, ",")));
  }
  return given;
}

TEST(AccessRulesTest, AFileThatIsCutOffGivesNothingThatTheWholeDoesNot) {
  const std::string token = "0123456789abcdef0123456789abcdef";
  const std::string subject = "ops.example.org";
  const std::string text = absl::StrCat("# all\npush llama,llama-2 token:", token, "\nread * sha256:", kDigest,
                                        "\nadmin * subject:", subject, "\n");
  const auto whole = AccessRules::Parse(text);
  ASSERT_TRUE(whole.ok()) << whole.status();
  int sound = 0;
  for (size_t bytes = 0; bytes <= text.size(); ++bytes) {
    const auto cut = AccessRules::Parse(text.substr(0, bytes));
    if (!cut.ok()) {
      if (bytes > 0 && text[bytes - 1] != '\n') {
        EXPECT_THAT(std::string(cut.status().message()), AllOf(HasSubstr("cut off"), HasSubstr("newline")));
      }
      continue;
    }
    ++sound;
    // Every credential that a cut line could name: each beginning of those in the file.
    for (size_t part = 0; part <= token.size(); ++part) {
      const std::string beginning = token.substr(0, part);
      const auto given = WhatIsGiven(cut->OfToken(beginning));
      if (given.empty()) continue;
      EXPECT_EQ(given, WhatIsGiven(whole->OfToken(beginning))) << bytes << " bytes";
    }
    for (size_t part = 0; part <= subject.size(); ++part) {
      const std::string beginning = subject.substr(0, part);
      const auto given = WhatIsGiven(cut->OfSubjects({beginning}));
      if (given.empty()) continue;
      EXPECT_EQ(given, WhatIsGiven(whole->OfSubjects({beginning}))) << bytes << " bytes";
    }
  }
  EXPECT_EQ(sound, 3) << "at the end of each line";
}

}  // namespace
}  // namespace weightstream
