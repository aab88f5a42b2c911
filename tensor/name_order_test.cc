// Against std::sort.
#include "tensor/name_order.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weightstream {
namespace {

void ExpectSorted(const std::vector<std::string>& names) {
  std::vector<TensorSpec> tensors;
  for (const std::string& name : names) tensors.push_back({name, DType::kU8, {}});
  std::vector<uint32_t> order(names.size());
  std::iota(order.begin(), order.end(), 0);
  SortByName(tensors, absl::MakeSpan(order));
  std::vector<std::string> sorted;
  for (const uint32_t index : order) sorted.push_back(names[index]);
  std::vector<std::string> expected = names;
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(sorted, expected);
  std::sort(order.begin(), order.end());
  for (uint32_t i = 0; i < order.size(); ++i) ASSERT_EQ(order[i], i);
}

TEST(SortByName, NoneAndOne) {
  ExpectSorted({});
  ExpectSorted({"a"});
}

TEST(SortByName, NumbersInTheirOwnOrder) {
  std::vector<std::string> names;
  for (int i = 0; i < 20000; ++i) names.push_back(absl::StrCat("model.experts.", i, ".weight"));
  ExpectSorted(names);
}

TEST(SortByName, NamesOfSeveralNumbers) {
  std::vector<std::string> names;
  for (int layer = 0; layer < 61; ++layer) {
    for (int expert = 0; expert < 64; ++expert) {
      for (const char* part : {"down_proj", "gate_proj", "up_proj"}) {
        names.push_back(absl::StrCat("model.layers.", layer, ".mlp.experts.", expert, ".", part, ".weight"));
      }
    }
  }
  ExpectSorted(names);
}

TEST(SortByName, EachTheBeginningOfTheNext) {
  std::vector<std::string> names;
  for (size_t length = 3000; length > 0; --length) names.emplace_back(length, 'n');
  ExpectSorted(names);
}

// No manifest holds such, but whoever calls must not be led astray.
TEST(SortByName, EqualNamesAndNulBytes) {
  std::vector<std::string> names(3000, "same");
  for (size_t i = 0; i < 2000; ++i) names.push_back("same" + std::string(i % 40, '\0'));
  ExpectSorted(names);
}

TEST(SortByName, RandomNames) {
  std::mt19937 random(7);
  for (const unsigned letters : {1U, 2U, 255U}) {
    for (const size_t longest : {3U, 12U, 40U}) {
      std::vector<std::string> names(5000);
      for (std::string& name : names) {
        for (size_t length = random() % (longest + 1); length > 0; --length) {
          name.push_back(static_cast<char>(255 - random() % letters));
        }
      }
      ExpectSorted(names);
    }
  }
}

}  // namespace
}  // namespace weightstream
