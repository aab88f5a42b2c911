#include "tensor/name_order.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/strings/string_view.h"

namespace weightstream {
namespace {

// So few names are sorted by comparing them, and so few heads: to count bytes is no gain below.
constexpr size_t kFew = 32;
constexpr size_t kFewHeads = 1024;
constexpr size_t kHeadBytes = sizeof(uint64_t);

// What is compared lies together: to fetch names from the specs each time is most of what sorting 100,000 would cost.
struct Key {
  // The first bytes after what the names of its group begin with, as a number that is lower where they come first.
  uint64_t head = 0;
  uint32_t index = 0;
};

uint64_t HeadOf(absl::string_view bytes) {
  uint64_t number = 0;
  for (size_t i = 0; i < kHeadBytes; ++i) {
    number = number << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0);
  }
  return number;
}

class NameSorter {
 public:
  NameSorter(absl::Span<const TensorSpec> tensors, size_t most) : tensors_(tensors), spare_(most) {}

  // All names begin with the same `same` bytes. Most groups split by their next eight bytes: "model.layers." is behind.
  void Sort(absl::Span<Key> keys, size_t same) {
    if (keys.size() <= kFew) return SortByComparing(keys);
    same = CommonPrefix(keys, same);
    for (Key& key : keys) key.head = HeadOf(NameOf(key).substr(same));
    SortByHead(keys);
    for (size_t begin = 0; begin < keys.size();) {
      size_t end = begin + 1;
      while (end < keys.size() && keys[end].head == keys[begin].head) ++end;
      const absl::Span<Key> group = keys.subspan(begin, end - begin);
      // Not split, and so never to be: the names are all equal, or hold NUL bytes. There are no such in a manifest.
      if (group.size() == keys.size()) return SortByComparing(keys);
      if (group.size() > 1) Sort(group, same);
      begin = end;
    }
  }

 private:
  absl::string_view NameOf(const Key& key) const { return tensors_[key.index].name; }

  void SortByComparing(absl::Span<Key> keys) const {
    std::sort(keys.begin(), keys.end(), [this](const Key& a, const Key& b) { return NameOf(a) < NameOf(b); });
  }

  // How many bytes all names begin with, of which `same` are known.
  size_t CommonPrefix(absl::Span<const Key> keys, size_t same) const {
    const absl::string_view first = NameOf(keys[0]);
    size_t length = first.size();
    for (const Key& key : keys) {
      const absl::string_view name = NameOf(key);
      const size_t most = std::min(length, name.size());
      size_t at = same;
      while (at < most && name[at] == first[at]) ++at;
      length = at;
      if (length == same) break;
    }
    return length;
  }

  // Byte by byte from the last on, each stably; bytes in which no two differ are passed over. Its 8 KiB of counts are
  // not to be in the frame of Sort, which calls itself for each eight bytes that names have in common.
  ABSL_ATTRIBUTE_NOINLINE void SortByHead(absl::Span<Key> keys) {
    if (keys.size() <= kFewHeads) {
      std::sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) { return a.head < b.head; });
      return;
    }
    std::array<std::array<uint32_t, 256>, kHeadBytes> counts{};
    for (const Key& key : keys) {
      for (size_t byte = 0; byte < kHeadBytes; ++byte) ++counts[byte][key.head >> (8 * byte) & 0xff];
    }
    Key* from = keys.data();
    Key* to = spare_.data();
    for (size_t byte = 0; byte < kHeadBytes; ++byte) {
      std::array<uint32_t, 256>& next = counts[byte];
      const auto digit = [byte](const Key& key) { return key.head >> (8 * byte) & 0xff; };
      if (next[digit(*from)] == keys.size()) continue;
      uint32_t place = 0;
      for (uint32_t& count : next) {
        const uint32_t same = count;
        count = place;
        place += same;
      }
      for (size_t i = 0; i < keys.size(); ++i) to[next[digit(from[i])]++] = from[i];
      std::swap(from, to);
    }
    if (from != keys.data()) std::copy_n(from, keys.size(), keys.data());
  }

  const absl::Span<const TensorSpec> tensors_;
  std::vector<Key> spare_;
};

}  // namespace

void SortByName(absl::Span<const TensorSpec> tensors, absl::Span<uint32_t> order) {
  std::vector<Key> keys;
  keys.reserve(order.size());
  for (const uint32_t index : order) keys.push_back({0, index});
  NameSorter(tensors, keys.size()).Sort(absl::MakeSpan(keys), 0);
  for (size_t i = 0; i < keys.size(); ++i) order[i] = keys[i].index;
}

}  // namespace weightstream
