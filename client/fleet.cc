#include "client/fleet.h"

#include <cerrno>
#include <fstream>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/address.h"
#include "client/defaults.h"
#include "tensor/text.h"

namespace weightstream {
namespace {

constexpr absl::string_view kFile = "@";
// 256 addresses with long comments take a tenth of it; a file that was meant for something else is larger.
constexpr size_t kMostFileBytes = 1 << 20;

absl::Status WithItem(absl::string_view item, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(item, ": ", status.message()));
}

// One address, not a file.
absl::StatusOr<Address> ParseServer(absl::string_view text) {
  absl::StatusOr<Address> address = ParseAddress(text);
  if (address.ok() && !address->resolver.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", Printable(text), "\" names a resolver, ", Printable(address->resolver),
                     "; names are looked up as this host does it: give dns:///", address->host, ":", address->port));
  }
  return address;
}

absl::string_view WithoutComment(absl::string_view line) {
  for (size_t at = line.find('#'); at != absl::string_view::npos; at = line.find('#', at + 1)) {
    if (at == 0 || absl::ascii_isspace(static_cast<unsigned char>(line[at - 1]))) line = line.substr(0, at);
  }
  return absl::StripAsciiWhitespace(line);
}

class Finder {
 public:
  explicit Finder(const NameLookup& lookup) : lookup_(lookup) {}

  absl::Status AddItem(absl::string_view item) {
    if (absl::StartsWith(item, kFile)) return AddFile(item);
    const absl::StatusOr<Address> address = ParseServer(item);
    return address.ok() ? AddServer(item, *address) : address.status();
  }

  Fleet Take() { return std::move(fleet_); }

 private:
  absl::Status AddServer(absl::string_view text, const Address& address) {
    if (address.kind != Address::Kind::kDns) return Add(std::string(text), "");
    const absl::StatusOr<std::vector<std::string>> found = lookup_(address.host);
    if (!found.ok()) return WithItem(text, found.status());
    for (const std::string& one : *found) {
      absl::Status added = Add(HostAndPort(one, address.port), address.host == one ? "" : address.host);
      if (!added.ok()) return added;
    }
    return absl::OkStatus();
  }

  absl::Status AddFile(absl::string_view item) {
    const std::string path(absl::StripPrefix(item, kFile));
    errno = 0;
    std::ifstream file(path);
    std::string line;
    size_t bytes = 0;
    for (int number = 1; std::getline(file, line); ++number) {
      bytes += line.size();
      if (bytes > kMostFileBytes) return FileError(item, "is larger than 1 MiB");
      const absl::string_view text = WithoutComment(line);
      if (text.empty()) continue;
      const absl::StatusOr<Address> address = ParseServer(text);
      const absl::Status added = address.ok() ? AddServer(text, *address) : address.status();
      if (!added.ok()) return WithItem(absl::StrCat(item, ":", number), added);
    }
    if (file.eof()) return absl::OkStatus();
    return FileError(item, absl::StrCat("cannot be read: ", std::error_code(errno, std::generic_category()).message()));
  }

  static absl::Status FileError(absl::string_view item, absl::string_view what) {
    return WithItem(item, absl::FailedPreconditionError(absl::StrCat(what, "; give a file with one address a line")));
  }

  absl::Status Add(std::string server, const std::string& tls_name) {
    if (!seen_.insert(server).second) return absl::OkStatus();
    if (fleet_.servers.size() == kMaxServers) {
      return absl::InvalidArgumentError(
          absl::StrCat("there are more than ", kMaxServers, " servers; that many are the most at once, name fewer"));
    }
    if (!tls_name.empty()) fleet_.tls_names.emplace(server, tls_name);
    fleet_.servers.push_back(std::move(server));
    return absl::OkStatus();
  }

  const NameLookup& lookup_;
  Fleet fleet_;
  std::set<std::string> seen_;
};

}  // namespace

absl::Status ValidateFleetItem(absl::string_view item) {
  if (!absl::StartsWith(item, kFile)) return ParseServer(item).status();
  if (item.size() > kFile.size()) return absl::OkStatus();
  return absl::InvalidArgumentError("\"@\" names no file; give @FILE, with one address a line");
}

absl::StatusOr<Fleet> FindFleet(absl::Span<const std::string> items, const NameLookup& lookup) {
  Finder finder(lookup);
  for (const std::string& item : items) {
    if (absl::Status added = finder.AddItem(item); !added.ok()) return added;
  }
  Fleet fleet = finder.Take();
  if (fleet.servers.empty()) {
    return absl::InvalidArgumentError(
        items.empty() ? "no server is named; give at least one address"
                      : absl::StrCat(items.front(), ": no server is named there; give at least one address"));
  }
  return fleet;
}

}  // namespace weightstream
