// The table of methods against the service as it is: a method that comes later must not stay out of the fuzzing.
#include "tests/fuzz/called_methods.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

const google::protobuf::ServiceDescriptor& Service() {
  const google::protobuf::FileDescriptor& file = *v1::BeginUpdateRequest::descriptor()->file();
  EXPECT_EQ(file.service_count(), 1);
  return *file.service(0);
}

TEST(CalledMethodsTest, EveryMethodOfTheServiceIsCalled) {
  const std::string prefix = absl::StrCat("/", Service().full_name(), "/");
  std::multiset<std::string> called;
  for (const CalledMethod& method : kCalledMethods) {
    absl::string_view name = method.path;
    if (absl::ConsumePrefix(&name, prefix)) called.emplace(name);
  }
  std::multiset<std::string> wanted = {"NoSuchMethod"};
  for (int i = 0; i < Service().method_count(); ++i) wanted.insert(Service().method(i)->name());
  EXPECT_EQ(called, wanted);
}

TEST(CalledMethodsTest, WhoMayDoMoreMayDoAllThatOthersMay) {
  EXPECT_TRUE(MayCall(Caller::kAdmin, "RollbackModel"));
  EXPECT_FALSE(MayCall(Caller::kPusher, "RollbackModel"));
  EXPECT_TRUE(MayCall(Caller::kPusher, "RegisterTargets"));
  EXPECT_FALSE(MayCall(Caller::kReader, "BeginUpdate"));
  EXPECT_TRUE(MayCall(Caller::kReader, "Pull"));
  EXPECT_FALSE(MayCall(Caller::kStranger, "Pull"));
  EXPECT_TRUE(MayCall(Caller::kNobody, "/grpc.health.v1.Health/Check"));
}

}  // namespace
}  // namespace weightstream
