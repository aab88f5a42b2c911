#include "client/command/first_holder.h"

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/command/find_servers.h"
#include "client/command/model_service.h"
#include "client/command/signals.h"

namespace weightstream::command {
namespace {

constexpr int kNobody = -1;

absl::Status Holds(const v1::Model& model, uint64_t version) {
  if (version == 0 && model.current_version() != 0) return absl::OkStatus();
  for (const v1::VersionInfo& held : model.versions()) {
    if (held.version() == version) return absl::OkStatus();
  }
  return absl::NotFoundError(version == 0 ? "has no current version" : absl::StrCat("does not hold version ", version));
}

}  // namespace

absl::StatusOr<std::string> FirstHolder(const std::vector<std::string>& servers, const ReadOptions& options) {
  if (servers.size() == 1) return servers.front();
  std::atomic<int> first = kNobody;
  std::vector<absl::Status> failures(servers.size());
  OnEachServer(servers.size(), [&](size_t i) {
    ModelService service(servers[i], options.limits, options.security,
                         [&first] { return Interrupted() || first.load() != kNobody; });
    const absl::StatusOr<v1::Model> model = service.Get(options.model);
    failures[i] = model.ok() ? Holds(*model, options.version) : model.status();
    int nobody = kNobody;
    if (failures[i].ok()) first.compare_exchange_strong(nobody, static_cast<int>(i));
  });
  if (first.load() != kNobody) return servers[static_cast<size_t>(first.load())];
  std::vector<std::string> said;
  for (size_t i = 0; i < servers.size(); ++i) said.push_back(absl::StrCat(servers[i], ": ", failures[i].message()));
  return absl::Status(failures.front().code(),
                      absl::StrCat("none of ", servers.size(), " servers has it to read: ", absl::StrJoin(said, "; ")));
}

}  // namespace weightstream::command
