#include "server/target_claims.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

// The first two of these, each by their begin, that overlap.
absl::optional<std::pair<const PlacedTarget*, const PlacedTarget*>> FindOverlap(
    const std::vector<PlacedTarget>& one, const std::vector<PlacedTarget>& other) {
  for (size_t i = 0, j = 0; i < one.size() && j < other.size();) {
    if (one[i].range.end <= other[j].range.begin) {
      ++i;
    } else if (other[j].range.end <= one[i].range.begin) {
      ++j;
    } else {
      return std::make_pair(&one[i], &other[j]);
    }
  }
  return absl::nullopt;
}

}  // namespace

absl::StatusOr<TargetClaims::Id> TargetClaims::Claim(const std::string& model,
                                                     const std::shared_ptr<const RegisteredTargets>& targets) {
  // Closed, if this is the last who holds them, without the lock.
  std::vector<std::shared_ptr<const RegisteredTargets>> others;
  absl::MutexLock lock(&mutex_);
  for (auto it = claims_.begin(); it != claims_.end();) {
    others.push_back(it->second.targets.lock());
    if (others.back() == nullptr) {
      it = claims_.erase(it);
      continue;
    }
    const std::string& owner = it->second.model;
    const auto overlap = owner == model ? absl::nullopt : FindOverlap(targets->places(), others.back()->places());
    if (overlap.has_value()) {
      return absl::AlreadyExistsError(
          absl::StrCat("the target of tensor '", Printable(overlap->first->tensor->spec.name), "' of model '", model,
                       "' overlaps that of tensor '", Printable(overlap->second->tensor->spec.name), "' of model '",
                       owner, "', which ", others.back()->owner(),
                       " registered; memory belongs to one model: end the other registration first"));
    }
    ++it;
  }
  claims_[next_] = {model, targets};
  return next_++;
}

void TargetClaims::Release(Id id) {
  absl::MutexLock lock(&mutex_);
  claims_.erase(id);
}

}  // namespace weightstream
