#include "client/fleet.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using Strings = std::vector<std::string>;

// Names of the test's own.
NameLookup Knows(std::map<std::string, Strings> names) {
  return [names = std::move(names)](const std::string& name) -> absl::StatusOr<Strings> {
    const auto found = names.find(name);
    if (found == names.end()) return absl::UnavailableError(absl::StrCat("the name \"", name, "\" has no address"));
    return found->second;
  };
}

Fleet Find(const Strings& items, const NameLookup& lookup = Knows({})) {
  const absl::StatusOr<Fleet> fleet = FindFleet(items, lookup);
  EXPECT_TRUE(fleet.ok()) << fleet.status();
  return fleet.ok() ? *fleet : Fleet();
}

std::string File(const std::string& folder, const std::string& text) {
  const std::string path = folder + "/fleet.txt";
  WriteTestFile(path, text);
  return path;
}

TEST(FindFleetTest, AddressesAreTakenAsTheyAre) {
  const Fleet fleet = Find({"b.example:1", "10.0.0.5:7070", "[2001:db8::5]:7070", "unix:/run/ws.sock"});
  EXPECT_EQ(fleet.servers, (Strings{"b.example:1", "10.0.0.5:7070", "[2001:db8::5]:7070", "unix:/run/ws.sock"}));
  EXPECT_TRUE(fleet.tls_names.empty());
}

TEST(FindFleetTest, ANameIsAServerAtEachOfItsAddressesAndTheirCertificatesAreForTheName) {
  const Fleet fleet = Find({"dns:///ws.default.svc:7070", "10.0.0.1:1"},
                           Knows({{"ws.default.svc", {"10.0.0.9", "10.0.0.10", "2001:db8::5"}}}));
  EXPECT_EQ(fleet.servers, (Strings{"10.0.0.9:7070", "10.0.0.10:7070", "[2001:db8::5]:7070", "10.0.0.1:1"}));
  EXPECT_EQ(fleet.tls_names, (std::map<std::string, std::string>{{"10.0.0.9:7070", "ws.default.svc"},
                                                                 {"10.0.0.10:7070", "ws.default.svc"},
                                                                 {"[2001:db8::5]:7070", "ws.default.svc"}}));
}

TEST(FindFleetTest, AnAddressForANameIsCheckedAgainstItself) {
  const Fleet fleet = Find({"dns:///[::1]:7070"}, Knows({{"::1", {"::1"}}}));
  EXPECT_EQ(fleet.servers, Strings{"[::1]:7070"});
  EXPECT_TRUE(fleet.tls_names.empty());
}

TEST(FindFleetTest, AFileHasAnAddressALineWithCommentsAndBlankLines) {
  const std::string folder = MakeTestFolder();
  const std::string path = File(folder,
                                "# the fleet of the evaluation cluster\n\n10.0.0.5:7070\n  10.0.0.6:7070  # slow\r\n"
                                "unix:/run/odd#name\ndns:///ws:7070\t# all of them");
  const Fleet fleet = Find({"@" + path, "10.0.0.7:7070"}, Knows({{"ws", {"10.0.1.1", "10.0.1.2"}}}));
  EXPECT_EQ(fleet.servers, (Strings{"10.0.0.5:7070", "10.0.0.6:7070", "unix:/run/odd#name", "10.0.1.1:7070",
                                    "10.0.1.2:7070", "10.0.0.7:7070"}));
  EXPECT_EQ(fleet.tls_names.size(), 2u);
}

TEST(FindFleetTest, AServerThatIsNamedInTwoWaysIsOne) {
  const std::string path = File(MakeTestFolder(), "10.0.0.5:7070\n10.0.0.5:7070\n");
  const Fleet fleet = Find({"10.0.0.5:7070", "dns:///ws:7070", "@" + path, "dns:///other:7070"},
                           Knows({{"ws", {"10.0.0.5", "10.0.0.6"}}, {"other", {"10.0.0.6"}}}));
  EXPECT_EQ(fleet.servers, (Strings{"10.0.0.5:7070", "10.0.0.6:7070"}));
  // What was written first says whose certificate it is: its own for an address, the first name for one that has two.
  EXPECT_EQ(fleet.tls_names, (std::map<std::string, std::string>{{"10.0.0.6:7070", "ws"}}));
}

TEST(FindFleetTest, ErrorsNameTheItemAndTheLine) {
  ExpectError(FindFleet(Strings{"dns:///gone:7070"}, Knows({})).status(), absl::StatusCode::kUnavailable,
              {"dns:///gone:7070: the name \"gone\""});
  const std::string folder = MakeTestFolder();
  const auto file_error = [&](const std::string& text) {
    return FindFleet(Strings{"@" + File(folder, text)}, Knows({})).status();
  };
  ExpectError(file_error("a:1\n\nb\n"), absl::StatusCode::kInvalidArgument, {"fleet.txt:3: address \"b\""});
  ExpectError(file_error("dns:///gone:1\n"), absl::StatusCode::kUnavailable, {"fleet.txt:1: dns:///gone:1: the name"});
  ExpectError(file_error("@other\n"), absl::StatusCode::kInvalidArgument, {"fleet.txt:1: address \"@other\""});
  ExpectError(file_error("a:1, b:2\n"), absl::StatusCode::kInvalidArgument, {"fleet.txt:1: address \"a:1, b:2\""});
  ExpectError(file_error("# nobody\n\n"), absl::StatusCode::kInvalidArgument, {"fleet.txt: no server is named there"});
  ExpectError(file_error(std::string((1 << 20) + 1, '#')), absl::StatusCode::kFailedPrecondition,
              {"fleet.txt: is larger than 1 MiB; give a file with one address a line"});
  ExpectError(FindFleet(Strings{"@" + folder + "/none"}, Knows({})).status(), absl::StatusCode::kFailedPrecondition,
              {"/none: cannot be read: No such file or directory; give a file"});
  ExpectError(FindFleet(Strings{"@" + folder}, Knows({})).status(), absl::StatusCode::kFailedPrecondition,
              {"cannot be read: "});
  ExpectError(FindFleet(Strings(), Knows({})).status(), absl::StatusCode::kInvalidArgument, {"at least one address"});
}

TEST(FindFleetTest, TooManyServersAreRefusedAndAsManyAsAllowedAreNot) {
  Strings addresses;
  for (int i = 0; i < 256; ++i) addresses.push_back(absl::StrCat("10.0.0.", i));
  const NameLookup lookup = Knows({{"ws", addresses}});
  EXPECT_EQ(Find({"dns:///ws:1"}, lookup).servers.size(), 256u);
  ExpectError(FindFleet(Strings{"dns:///ws:1", "b:1"}, lookup).status(), absl::StatusCode::kInvalidArgument,
              {"more than 256 servers"});
}

TEST(ValidateFleetItemTest, ReadsTheFormAndOpensNothing) {
  for (const char* item : {"a:1", "[::1]:1", "unix:s", "dns:///ws:7070", "dns:ws:7070", "@fleet.txt", "@/no/such"}) {
    EXPECT_TRUE(ValidateFleetItem(item).ok()) << item << ": " << ValidateFleetItem(item);
  }
  for (const char* item : {"", "a", "@", "dns:///ws", "::1:1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ValidateFleetItem(item))) << item;
  }
  ExpectError(ValidateFleetItem("dns://10.0.0.1:53/ws:7070"), absl::StatusCode::kInvalidArgument,
              {"names a resolver, 10.0.0.1:53", "give dns:///ws:7070"});
}

TEST(SystemNameLookupTest, KnowsLocalhostAndAddresses) {
  const NameLookup lookup = SystemNameLookup(absl::Seconds(30));
  const absl::StatusOr<Strings> local = lookup("localhost");
  ASSERT_TRUE(local.ok()) << local.status();
  for (const std::string& address : *local) EXPECT_TRUE(address == "127.0.0.1" || address == "::1") << address;
  EXPECT_EQ(*lookup("127.0.0.3"), Strings{"127.0.0.3"});
  EXPECT_EQ(*lookup("::1"), Strings{"::1"});
}

TEST(SystemNameLookupTest, ANameWithoutAnAddressIsNamedWithTheRemedy) {
  // Reserved by RFC 6761; where there is no resolver at all the answer is another, and as final.
  ExpectError(SystemNameLookup(absl::Seconds(30))("nobody.invalid").status(), absl::StatusCode::kUnavailable,
              {"the name \"nobody.invalid\" has no address: ", "check the name and this host's resolver"});
}

TEST(WithinLimitTest, ALookupThatHangsIsGivenUpInTimeAndWhenCancelled) {
  const auto over = std::make_shared<absl::Notification>();
  const NameLookup hangs = [over](const std::string&) -> absl::StatusOr<Strings> {
    over->WaitForNotification();
    return Strings{"10.0.0.5"};
  };
  ExpectError(WithinLimit(hangs, absl::Milliseconds(1), nullptr)("ws").status(), absl::StatusCode::kDeadlineExceeded,
              {"the name \"ws\" was not resolved within 1ms; check this host's resolver"});
  ExpectError(WithinLimit(hangs, absl::InfiniteDuration(), [] { return true; })("ws").status(),
              absl::StatusCode::kCancelled, {"cancelled"});
  over->Notify();
  EXPECT_EQ(*WithinLimit(hangs, absl::Seconds(30), nullptr)("ws"), Strings{"10.0.0.5"});
}

}  // namespace
}  // namespace weightstream
