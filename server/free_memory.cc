#include "server/free_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"

namespace weightstream {
namespace {

constexpr uint64_t kUnknown = std::numeric_limits<uint64_t>::max();

// The number in a file that holds nothing else; nothing if it is not there or says "max".
absl::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  uint64_t number = 0;
  if (!(file >> word) || !absl::SimpleAtoi(word, &number)) return absl::nullopt;
  return number;
}

// The number behind `key` in a file of lines "key number ...".
absl::optional<uint64_t> ReadField(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t number = 0;
    if (words >> name >> number && name == key) return number;
  }
  return absl::nullopt;
}

uint64_t LeftInGroup(const std::string& limit_path, const std::string& usage_path, const std::string& stat_path,
                     const std::string& cache_key) {
  const absl::optional<uint64_t> limit = ReadNumber(limit_path);
  const absl::optional<uint64_t> usage = ReadNumber(usage_path);
  if (!limit.has_value() || !usage.has_value()) return kUnknown;
  const uint64_t used = *usage - std::min(*usage, ReadField(stat_path, cache_key).value_or(0));
  return *limit - std::min(*limit, used);
}

}  // namespace

uint64_t FreeMemoryBytes(const std::string& proc, const std::string& cgroup) {
  const absl::optional<uint64_t> available_kib = ReadField(absl::StrCat(proc, "/meminfo"), "MemAvailable:");
  const uint64_t machine = available_kib.has_value() ? *available_kib * 1024 : kUnknown;
  const uint64_t version2 = LeftInGroup(absl::StrCat(cgroup, "/memory.max"), absl::StrCat(cgroup, "/memory.current"),
                                        absl::StrCat(cgroup, "/memory.stat"), "inactive_file");
  const std::string memory = absl::StrCat(cgroup, "/memory");
  const uint64_t version1 =
      LeftInGroup(absl::StrCat(memory, "/memory.limit_in_bytes"), absl::StrCat(memory, "/memory.usage_in_bytes"),
                  absl::StrCat(memory, "/memory.stat"), "total_inactive_file");
  return std::min({machine, version2, version1});
}

}  // namespace weightstream
