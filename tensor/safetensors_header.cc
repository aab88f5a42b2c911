#include "tensor/safetensors_header.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensor/json_events.h"

namespace weightstream {
namespace {

constexpr absl::string_view kMetadataKey = "__metadata__";

// Follows the header through its few legal places. Anything that is not expected where it comes is an error, so that
// nesting goes three levels deep at most, whatever the file says.
class HeaderHandler : public JsonHandler {
 public:
  explicit HeaderHandler(absl::string_view path) : path_(path) {}

  SafetensorsHeader TakeHeader() && { return std::move(header_); }

  absl::Status OnStartObject() override {
    if (place_ == Place::kStart) return MoveTo(Place::kTopKey);
    if (place_ == Place::kEntry) return MoveTo(Place::kEntryKey);
    if (place_ == Place::kMetadata) return MoveTo(Place::kMetadataKey);
    return OnOther("an object");
  }
  absl::Status OnKey(std::string key) override {
    if (place_ == Place::kTopKey) return OnTopKey(std::move(key));
    if (place_ == Place::kMetadataKey) return OnMetadataKey(std::move(key));
    return OnEntryKey(key);
  }
  absl::Status OnEndObject() override {
    if (place_ == Place::kEntryKey) {
      if (absl::Status status = FinishEntry(); !status.ok()) return status;
    }
    return MoveTo(Place::kTopKey);
  }
  absl::Status OnStartArray() override {
    if (place_ == Place::kShape) return MoveTo(Place::kShapeItem);
    if (place_ == Place::kOffsets) return MoveTo(Place::kOffsetItem);
    return OnOther("an array");
  }
  absl::Status OnEndArray() override { return MoveTo(Place::kEntryKey); }
  absl::Status OnString(std::string value) override;
  absl::Status OnUnsigned(uint64_t value) override;
  absl::Status OnOther(absl::string_view what) override;

 private:
  // What comes next: "Key" places are inside an object, between its members.
  enum class Place {
    kStart,
    kTopKey,
    kMetadata,
    kMetadataKey,
    kMetadataText,
    kEntry,
    kEntryKey,
    kDType,
    kShape,
    kShapeItem,
    kOffsets,
    kOffsetItem,
  };

  // What is known of the tensor under way.
  struct Entry {
    std::string name;
    std::optional<DType> dtype;
    std::optional<std::vector<uint64_t>> shape;
    std::optional<std::vector<uint64_t>> offsets;
  };

  absl::Status MoveTo(Place place) {
    place_ = place;
    return absl::OkStatus();
  }
  absl::Status HeaderError(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": header: ", what));
  }
  absl::Status EntryError(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": tensor \"", Printable(entry_.name), "\": ", what));
  }

  absl::Status OnTopKey(std::string key);
  absl::Status OnMetadataKey(std::string key);
  absl::Status OnEntryKey(const std::string& key);
  absl::Status FinishEntry();

  const absl::string_view path_;
  Place place_ = Place::kStart;
  Entry entry_;
  std::string metadata_key_;
  absl::flat_hash_set<std::string> names_;
  bool has_metadata_ = false;
  SafetensorsHeader header_;
};

absl::Status HeaderHandler::OnTopKey(std::string key) {
  if (key == kMetadataKey) {
    if (std::exchange(has_metadata_, true)) return HeaderError("__metadata__ occurs twice");
    return MoveTo(Place::kMetadata);
  }
  if (absl::Status status = ValidateTensorName(key); !status.ok()) return HeaderError(status.message());
  entry_ = Entry{.name = std::move(key), .dtype = {}, .shape = {}, .offsets = {}};
  if (!names_.insert(entry_.name).second) return EntryError("the name occurs twice; names must be unique");
  return MoveTo(Place::kEntry);
}

absl::Status HeaderHandler::OnMetadataKey(std::string key) {
  if (header_.metadata.count(key) != 0) {
    return HeaderError(absl::StrCat("__metadata__ has the key \"", Printable(key), "\" twice"));
  }
  metadata_key_ = std::move(key);
  return MoveTo(Place::kMetadataText);
}

absl::Status HeaderHandler::OnEntryKey(const std::string& key) {
  bool is_repeated = false;
  if (key == "dtype") {
    is_repeated = entry_.dtype.has_value();
    place_ = Place::kDType;
  } else if (key == "shape") {
    is_repeated = entry_.shape.has_value();
    entry_.shape.emplace();
    place_ = Place::kShape;
  } else if (key == "data_offsets") {
    is_repeated = entry_.offsets.has_value();
    entry_.offsets.emplace();
    place_ = Place::kOffsets;
  } else {
    return EntryError(
        absl::StrCat("unknown key \"", Printable(key), "\"; an entry has dtype, shape and data_offsets, nothing else"));
  }
  return is_repeated ? EntryError(absl::StrCat("the key ", key, " occurs twice")) : absl::OkStatus();
}

absl::Status HeaderHandler::OnString(std::string value) {
  if (place_ == Place::kMetadataText) {
    header_.metadata.emplace(std::move(metadata_key_), std::move(value));
    return MoveTo(Place::kMetadataKey);
  }
  if (place_ != Place::kDType) return OnOther("a string");
  const absl::StatusOr<DType> dtype = ParseDType(value);
  if (!dtype.ok()) return EntryError(dtype.status().message());
  entry_.dtype = *dtype;
  return MoveTo(Place::kEntryKey);
}

// The counts are bounded here, not after the array, so that a long one takes no memory.
absl::Status HeaderHandler::OnUnsigned(uint64_t value) {
  if (place_ == Place::kShapeItem) {
    if (entry_.shape->size() == kMaxTensorRank) {
      return EntryError(absl::StrCat("its shape has more than ", kMaxTensorRank, " dimensions"));
    }
    entry_.shape->push_back(value);
    return absl::OkStatus();
  }
  if (place_ != Place::kOffsetItem) return OnOther("a number");
  if (entry_.offsets->size() == 2) return EntryError("data_offsets has more than two numbers; it must be [begin, end]");
  entry_.offsets->push_back(value);
  return absl::OkStatus();
}

absl::Status HeaderHandler::OnOther(absl::string_view what) {
  switch (place_) {
    case Place::kStart:
      return HeaderError(absl::StrCat("it must be a JSON object, not ", what));
    case Place::kMetadata:
      return HeaderError(absl::StrCat("__metadata__ must be an object of strings, not ", what));
    case Place::kMetadataText:
      return HeaderError(
          absl::StrCat("__metadata__: the value of \"", Printable(metadata_key_), "\" must be a string, not ", what));
    case Place::kDType:
      return EntryError(absl::StrCat("dtype must be a string, not ", what));
    case Place::kShape:
    case Place::kShapeItem:
      return EntryError(absl::StrCat("shape must be an array of whole numbers from 0, not contain ", what));
    case Place::kOffsets:
    case Place::kOffsetItem:
      return EntryError(absl::StrCat("data_offsets must be [begin, end] in whole numbers, not contain ", what));
    case Place::kEntry:
    case Place::kTopKey:
    case Place::kMetadataKey:
    case Place::kEntryKey:
      break;
  }
  return EntryError(absl::StrCat("its entry must be an object with dtype, shape and data_offsets, not ", what));
}

absl::Status HeaderHandler::FinishEntry() {
  if (!entry_.dtype.has_value()) return EntryError("dtype is missing");
  if (!entry_.shape.has_value()) return EntryError("shape is missing");
  if (!entry_.offsets.has_value()) return EntryError("data_offsets is missing");
  if (entry_.offsets->size() != 2) return EntryError("data_offsets must be [begin, end]: two numbers");
  const ByteRange range = {entry_.offsets->front(), entry_.offsets->back()};
  if (range.begin > range.end) {
    return EntryError(absl::StrCat("data_offsets [", range.begin, ", ", range.end, "] end before they begin"));
  }
  const absl::StatusOr<uint64_t> bytes = TensorByteSize(entry_.name, *entry_.dtype, *entry_.shape);
  if (!bytes.ok()) return absl::InvalidArgumentError(absl::StrCat(path_, ": ", bytes.status().message()));
  if (range.size() != *bytes) {
    return EntryError(absl::StrCat("data_offsets [", range.begin, ", ", range.end, "] span ", range.size(),
                                   " bytes, but ", ShapeString(*entry_.dtype, *entry_.shape), " takes ", *bytes));
  }
  TensorSpec spec = {.name = std::move(entry_.name), .dtype = *entry_.dtype, .shape = *std::move(entry_.shape)};
  header_.tensors.push_back({.spec = std::move(spec), .range = range});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view path, absl::string_view json) {
  const std::string subject = absl::StrCat(path, ": header");
  const size_t end = json.find_last_not_of(' ') + 1;  // npos + 1 is 0: nothing but padding.
  const absl::string_view text = json.substr(0, end);
  if (text.empty() || text.front() != '{') {
    return absl::InvalidArgumentError(absl::StrCat(subject, ": it must start with '{'; is this a safetensors file?"));
  }
  if (text.back() != '}') {
    return absl::InvalidArgumentError(
        absl::StrCat(subject, ": it must end with '}', and nothing but spaces may follow"));
  }
  HeaderHandler handler(path);
  if (absl::Status status = ParseJson(subject, text, handler); !status.ok()) return status;
  return std::move(handler).TakeHeader();
}

}  // namespace weightstream
