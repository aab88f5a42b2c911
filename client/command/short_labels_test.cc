#include "client/command/short_labels.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weightstream::command {
namespace {

using Strings = std::vector<std::string>;

TEST(ShortLabelsTest, ShortNamesStillTellServersApart) {
  EXPECT_EQ(ShortNames({"10.0.0.5:7070", "10.0.0.6:7070"}), (Strings{"10.0.0.5", "10.0.0.6"}));
  EXPECT_EQ(ShortNames({"localhost:1", "localhost:2"}), (Strings{"localhost:1", "localhost:2"}));
  EXPECT_EQ(ShortNames({"a-0.pods.local:7070", "a-1.pods.local:7070"}), (Strings{"a-0", "a-1"}));
  EXPECT_EQ(ShortNames({"a.north.org:7070", "a.south.org:7070"}), (Strings{"a.north.org:7070", "a.south.org:7070"}));
  EXPECT_EQ(ShortNames({"[::1]:7070"}), (Strings{"[::1]"}));
  EXPECT_EQ(ShortNames({"unix:/run/weightstream.sock"}), (Strings{"unix:/run/weightstream.sock"}));
}

TEST(ShortLabelsTest, ANameLosesItsMiddleAndAnAddressKeepsItsPort) {
  EXPECT_EQ(CutNames({"llama-70b-decode"}, 12), (Strings{"llama..ecode"}));
  EXPECT_EQ(CutNames({"127.0.0.1:40001"}, 15), (Strings{"127.0.0.1:40001"}));
  EXPECT_EQ(CutNames({"127.0.0.1:40001"}, 12), (Strings{"127...:40001"}));
  EXPECT_EQ(CutNames({"127.0.0.1:40001"}, 8), (Strings{"..:40001"}));
  EXPECT_EQ(CutNames({"127.0.0.1:40001"}, 5), (Strings{"127.0"}));
}

TEST(ShortLabelsTest, WhatAllNamesBeginWithIsDroppedWhereTheyWouldLookTheSame) {
  const Strings names = {"weights-decode-a.north.example:7070", "weights-decode-b.north.example:7070"};
  EXPECT_EQ(CutNames(names, 12), (Strings{"..a.n..:7070", "..b.n..:7070"}));
  EXPECT_EQ(CutNames({"run-17-step-9-actor", "run-18-step-9-actor"}, 8), (Strings{"run..tor", "run..tor"}))
      << "in so few columns nothing helps";
  EXPECT_EQ(CutNames({"run-17-step-9-actor", "run-18-step-9-actor"}, 10), (Strings{"..17..ctor", "..18..ctor"}));
}

TEST(ShortLabelsTest, NamesCanBeCutAsFarAsTheyStillDiffer) {
  EXPECT_EQ(ColumnsToDiffer({"llama-70b-actor", "llama-70b-actor"}, 8), 8u);
  EXPECT_EQ(ColumnsToDiffer({"draft", "llama"}, 8), 5u) << "none is longer";
  const std::vector<Strings> cases = {
      {"127.0.0.1:41001", "127.0.0.1:42001"},
      {"run-17-step-9-actor", "run-18-step-9-actor"},
      {"a.north.example:7070", "a.south.example:7070", "b.south.example:7070"},
      {absl::StrCat(std::string(60, 'a'), "x", std::string(60, 'b')),
       absl::StrCat(std::string(60, 'a'), "y", std::string(60, 'b'))},
  };
  for (const Strings& names : cases) {
    const size_t columns = ColumnsToDiffer(names, 8);
    const Strings cut = CutNames(names, columns);
    EXPECT_EQ(std::set<std::string>(cut.begin(), cut.end()).size(), names.size()) << cut[0] << " " << cut[1];
    EXPECT_LE(columns, 12u) << cut[0];
    for (const std::string& name : cut) EXPECT_LE(name.size(), columns);
  }
}

}  // namespace
}  // namespace weightstream::command
