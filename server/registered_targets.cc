#include "server/registered_targets.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "kernels/cast.h"
#include "tensor/dtype.h"

namespace weightstream {
namespace {

std::string Named(const std::string& tensor) { return absl::StrCat("tensor '", Printable(tensor), "'"); }

// By their begin.
absl::Status CheckOverlaps(const std::vector<PlacedTarget>& places) {
  for (size_t i = 1; i < places.size(); ++i) {
    if (places[i].range.begin >= places[i - 1].range.end) continue;
    return absl::InvalidArgumentError(absl::StrCat("the targets of ", Named(places[i - 1].tensor->spec.name), " and ",
                                                   Named(places[i].tensor->spec.name),
                                                   " overlap; register tensors that share memory once"));
  }
  return absl::OkStatus();
}

// Bytes of a target, in its own dtype.
absl::StatusOr<uint64_t> TargetBytes(const TargetTensor& tensor) {
  absl::StatusOr<SliceMap> map = SliceMap::Create(tensor.spec, tensor.slice);
  if (!map.ok()) return map.status();
  return map->bytes();
}

}  // namespace

// ---- Registered -----------------------------------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<const RegisteredTargets>> RegisteredTargets::Open(Device& device,
                                                                                 TargetRegistration registration) {
  std::shared_ptr<RegisteredTargets> targets(new RegisteredTargets(device, std::move(registration)));
  if (absl::Status opened = targets->OpenMemory(); !opened.ok()) return opened;
  if (absl::Status checked = targets->CheckTensors(); !checked.ok()) return checked;
  return targets;
}

absl::Status RegisteredTargets::OpenMemory() {
  for (size_t i = 0; i < registration_.memory.size(); ++i) {
    absl::StatusOr<std::unique_ptr<Target>> target = device_.Open(registration_.memory[i]);
    if (!target.ok()) {
      return absl::Status(target.status().code(), absl::StrCat("memory ", i, ": ", target.status().message()));
    }
    memory_.push_back(*std::move(target));
  }
  return absl::OkStatus();
}

absl::Status RegisteredTargets::CheckTensors() {
  if (registration_.tensors.empty()) {
    return absl::InvalidArgumentError("no tensor is registered; name each, with its memory and offset");
  }
  absl::flat_hash_set<absl::string_view> names;
  for (const TargetTensor& tensor : registration_.tensors) {
    if (absl::Status valid = ValidateTensorName(tensor.spec.name); !valid.ok()) return valid;
    if (!names.insert(tensor.spec.name).second) {
      return absl::InvalidArgumentError(absl::StrCat(Named(tensor.spec.name), " is registered twice"));
    }
    if (tensor.memory >= memory_.size()) {
      return absl::InvalidArgumentError(absl::StrCat(Named(tensor.spec.name), " lies in memory ", tensor.memory,
                                                     ", and there are ", memory_.size(), ", counted from 0"));
    }
    const absl::StatusOr<uint64_t> bytes = TargetBytes(tensor);
    if (!bytes.ok()) return bytes.status();
    const uint64_t room = memory_[tensor.memory]->bytes();
    if (tensor.offset > room || *bytes > room - tensor.offset) {
      return absl::InvalidArgumentError(absl::StrCat(Named(tensor.spec.name), " takes ", *bytes, " bytes from ",
                                                     tensor.offset, " on, and memory ", tensor.memory, " has ", room));
    }
    const SharedMemory& memory = registration_.memory[tensor.memory];
    const uint64_t begin = memory.offset + tensor.offset;
    const auto alignment = static_cast<uint64_t>(DTypeAlignment(tensor.spec.dtype));
    // Of the memory too, in which casts count whole elements (Device::CastToTarget).
    if (begin % alignment != 0 || tensor.offset % alignment != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          Named(tensor.spec.name), " starts at byte ", tensor.offset, " of memory ", tensor.memory, ", which is byte ",
          begin, " of its allocation: not aligned for ", DTypeName(tensor.spec.dtype), " (", alignment, ")"));
    }
    const uint64_t address = memory_[tensor.memory]->device_address() + tensor.offset;
    if (*bytes > 0) places_.push_back({{address, address + *bytes}, &tensor});
    bytes_ += *bytes;
  }
  std::sort(places_.begin(), places_.end(),
            [](const PlacedTarget& a, const PlacedTarget& b) { return a.range.begin < b.range.begin; });
  return CheckOverlaps(places_);
}

// ---- Bound ----------------------------------------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<BoundTargets>> BoundTargets::Bind(std::shared_ptr<const RegisteredTargets> targets,
                                                                 const SafetensorsLayout& layout) {
  std::shared_ptr<BoundTargets> bound(new BoundTargets(std::move(targets), layout));
  for (const TargetTensor& target : bound->targets_->tensors()) {
    if (absl::Status tensor = bound->BindTensor(target, layout); !tensor.ok()) return tensor;
  }
  for (size_t i = 0; i < layout.tensors.size(); ++i) {
    if (bound->targets_->partial() || bound->parts_[i].has_value()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the manifest's ", Named(layout.tensors[i].spec.name), " has no target among those that ",
                     bound->targets_->owner(), " registered; register it, or say that the registration is partial"));
  }
  const bool casts = std::any_of(bound->parts_.begin(), bound->parts_.end(), [](const absl::optional<Part>& part) {
    return part.has_value() && part->cast.has_value();
  });
  if (casts) {
    if (absl::Status prepared = bound->targets_->device().PrepareToCast(); !prepared.ok()) return prepared;
  }
  return bound;
}

absl::Status BoundTargets::BindTensor(const TargetTensor& target, const SafetensorsLayout& layout) {
  const absl::optional<uint32_t> index = FindInLayout(layout, target.spec.name);
  const std::string subject =
      absl::StrCat("the target of ", Named(target.spec.name), " that ", targets_->owner(), " registered");
  if (!index.has_value())
    return absl::InvalidArgumentError(absl::StrCat(subject, " is none of the manifest's tensors"));
  const TensorSpec& spec = layout.tensors[*index].spec;
  const auto contradicts = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, " is of ", ShapeString(target.spec.dtype, target.spec.shape), ", and the manifest says ",
                     ShapeString(spec.dtype, spec.shape), why));
  };
  if (spec.shape != target.spec.shape) return contradicts("");
  absl::StatusOr<SliceMap> map = SliceMap::Create(spec, target.slice);
  if (!map.ok()) return map.status();
  absl::optional<FloatCast> cast;
  if (spec.dtype != target.spec.dtype) {
    const absl::StatusOr<FloatCast> found = FindFloatCast(spec.dtype, target.spec.dtype);
    if (!found.ok()) return contradicts("; casts are between F32, BF16 and F16");
    cast = *found;
  }
  parts_[*index] = Part{&target, *map, cast};
  return absl::OkStatus();
}

absl::StatusOr<BoundTargets::Write> BoundTargets::Place(const SafetensorsLayout& layout, const TensorRange& range,
                                                        char* staged) const {
  const absl::optional<Part>& part = parts_[range.tensor];
  if (!part.has_value()) return Write();
  const TensorSpec& spec = layout.tensors[range.tensor].spec;
  uint64_t from_bytes = 1;
  uint64_t to_bytes = 1;
  if (part->cast.has_value()) {
    from_bytes = CastSourceBytes(*part->cast);
    to_bytes = CastDestinationBytes(*part->cast);
    if (range.range.begin % from_bytes != 0 || range.range.end % from_bytes != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a chunk of ", Named(spec.name), " brings bytes [", range.range.begin, ", ", range.range.end,
                       "), and its target holds ", DTypeName(part->target->spec.dtype), " instead of ",
                       DTypeName(spec.dtype), ", which takes whole elements: cut chunks at multiples of ", from_bytes));
    }
  }
  const ByteRange in_part = part->map.Map(range.range);
  part->map.Compact(range.range, staged);
  return Write{&targets_->memory(part->target->memory), part->target->offset + in_part.begin / from_bytes * to_bytes,
               in_part.size(), part->cast};
}

HeldTensor BoundTargets::HowHeld(const SafetensorsLayout& layout, uint32_t tensor) const {
  const absl::optional<Part>& part = parts_[tensor];
  if (!part.has_value()) return {.held = false, .dtype = layout.tensors[tensor].spec.dtype};
  uint64_t bytes = part->map.bytes();
  if (part->cast.has_value()) bytes = bytes / CastSourceBytes(*part->cast) * CastDestinationBytes(*part->cast);
  return {.dtype = part->target->spec.dtype,
          .slice = part->map.whole() ? absl::nullopt : part->target->slice,
          .bytes = bytes};
}

absl::Status BoundTargets::CheckReadable(const SafetensorsLayout& layout, uint32_t tensor) const {
  const absl::optional<Part>& part = parts_[tensor];
  if (part.has_value() && part->map.whole() && !part->cast.has_value()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      Named(layout.tensors[tensor].spec.name), " cannot be read back: ",
      !part.has_value() ? "it is not held here"
                        : absl::StrCat("its target holds ",
                                       part->cast.has_value() ? DTypeName(part->target->spec.dtype) : "a part of it"),
      "; the inference server ", targets_->owner(), " has registered it so"));
}

absl::Status BoundTargets::Read(const SafetensorsLayout& layout, const TensorRange& range, char* destination) const {
  if (absl::Status readable = CheckReadable(layout, range.tensor); !readable.ok()) return readable;
  const TargetTensor& target = *parts_[range.tensor]->target;
  return targets_->device().ReadTarget(targets_->memory(target.memory),
                                       {target.offset + range.range.begin, target.offset + range.range.end},
                                       destination);
}

absl::StatusOr<std::vector<uint32_t>> BoundTargets::Digest(uint32_t tensor, ByteRange held,
                                                           uint64_t block_bytes) const {
  const TargetTensor& target = *parts_[tensor]->target;
  return targets_->device().DigestTarget(targets_->memory(target.memory),
                                         {target.offset + held.begin, target.offset + held.end}, block_bytes);
}

}  // namespace weightstream
