#include "server/model_store.h"

#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

constexpr absl::string_view kIncomingPrefix = ".incoming-";
constexpr absl::string_view kSparePrefix = ".spare-";
constexpr absl::string_view kRemovedPrefix = ".removed-";
constexpr absl::string_view kCurrent = "/current";
constexpr absl::string_view kNext = "/.next";
constexpr absl::string_view kFile = "/model.safetensors";

// Names below the data directory.
std::string VersionName(const std::string& model, uint64_t version) { return absl::StrCat(model, "/", version); }

std::string IncomingName(const std::string& model, const std::string& update_id) {
  return absl::StrCat(model, "/", kIncomingPrefix, update_id);
}

std::string SpareName(const std::string& model, const std::string& id) {
  return absl::StrCat(model, "/", kSparePrefix, id);
}

// The version that a folder's or a link's text names, in the one form that we write.
absl::StatusOr<uint64_t> ParseVersion(absl::string_view text) {
  uint64_t version = 0;
  if (!absl::SimpleAtoi(text, &version) || version == 0 || absl::StrCat(version) != text) {
    return absl::InvalidArgumentError(absl::StrCat("'", Printable(text), "' is not a version"));
  }
  return version;
}

// Two servers on one folder would remove each other's files. The lock goes with the process, however it ends.
absl::StatusOr<FileDescriptor> LockFolder(const DataFolder& folder) {
  absl::StatusOr<FileDescriptor> file = folder.CreateOrOpenFile(".lock");
  if (!file.ok()) {
    return absl::Status(
        file.status().code(),
        absl::StrCat("cannot write to the data directory ", folder.path(),
                     " (choose another with --data-dir, or give this user access): ", file.status().message()));
  }
  if (::flock(file->get(), LOCK_EX | LOCK_NB) == 0) return file;
  const int error = errno;
  if (error != EWOULDBLOCK) return absl::ErrnoToStatus(error, absl::StrCat("cannot lock ", folder.PathOf(".lock")));
  return absl::FailedPreconditionError(
      absl::StrCat("the data directory ", folder.path(),
                   " is in use by another weightstream-server; stop it or choose another "
                   "folder with --data-dir"));
}

}  // namespace

absl::string_view OpenVersion::data(size_t index) const {
  const ByteRange& range = layout.tensors[index].range;
  return file->bytes().substr(layout.data_start + range.begin, range.size());
}

absl::StatusOr<std::unique_ptr<ModelStore>> ModelStore::Open(const std::string& data_dir) {
  if (data_dir.empty()) return absl::InvalidArgumentError("the data directory is empty; give one with --data-dir");
  absl::StatusOr<DataFolder> folder = DataFolder::Open(data_dir);
  if (!folder.ok()) {
    const bool has_remedy = absl::IsFailedPrecondition(folder.status());
    return absl::Status(folder.status().code(),
                        absl::StrCat("cannot use the data directory ", data_dir, ": ", folder.status().message(), "; ",
                                     has_remedy ? "or choose another with --data-dir"
                                                : "choose another with --data-dir, or give this user access"));
  }
  absl::StatusOr<FileDescriptor> lock = LockFolder(*folder);
  if (!lock.ok()) return lock.status();
  std::unique_ptr<ModelStore> store(new ModelStore(*std::move(folder), *std::move(lock)));
  if (absl::Status recovered = store->Recover(); !recovered.ok()) return recovered;
  return store;
}

absl::Status ModelStore::Recover() {
  absl::StatusOr<std::vector<std::string>> names = folder_.ListFolder("");
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    // What is not ours (a dot file, a name that no model may have) is left alone.
    if (!ValidateModelName(name).ok()) continue;
    const absl::StatusOr<bool> ours = IsOurFolder(name);
    if (!ours.ok()) return ours.status();
    if (!*ours) continue;
    absl::StatusOr<StoredModel> model = RecoverModel(name);
    if (!model.ok()) {
      // One folder in disorder is no reason to serve nothing.
      warnings_.push_back(
          absl::StrCat("model '", name, "' is not served and was left alone: ", model.status().message()));
      continue;
    }
    if (!model->versions.empty()) recovered_.push_back(*std::move(model));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> ModelStore::IsOurFolder(const std::string& name) {
  const absl::StatusOr<DataFolder::Kind> kind = folder_.KindOf(name);
  if (!kind.ok()) return kind.status();
  if (*kind == DataFolder::Kind::kLink) {
    warnings_.push_back(absl::StrCat(folder_.PathOf(name),
                                     " is a symbolic link, and none is followed below the data directory: it is not "
                                     "served and was left alone"));
  }
  return *kind == DataFolder::Kind::kFolder;
}

absl::StatusOr<StoredModel> ModelStore::RecoverModel(const std::string& name) {
  const std::string& folder = name;
  if (absl::Status cleared = ClearLeftovers(folder); !cleared.ok()) return cleared;
  StoredModel model;
  model.name = name;
  absl::StatusOr<std::vector<std::string>> entries = folder_.ListFolder(folder);
  if (!entries.ok()) return entries.status();
  for (const std::string& entry : *entries) {
    absl::StatusOr<uint64_t> version = ParseVersion(entry);
    if (!version.ok()) continue;
    const absl::StatusOr<bool> ours = IsOurFolder(VersionName(name, *version));
    if (!ours.ok()) return ours.status();
    if (!*ours) continue;
    absl::StatusOr<VersionRecord> record = ReadRecord(VersionName(name, *version), *version);
    if (record.ok()) {
      model.versions.push_back(*std::move(record));
    } else {
      warnings_.push_back(absl::StrCat("version ", *version, " of model '", name,
                                       "' is not served and was left alone: ", record.status().message()));
    }
  }
  std::sort(model.versions.begin(), model.versions.end(),
            [](const VersionRecord& a, const VersionRecord& b) { return a.version < b.version; });
  if (absl::Status current = RecoverCurrent(folder, model); !current.ok()) return current;
  return model;
}

absl::Status ModelStore::ClearLeftovers(const std::string& folder) {
  absl::StatusOr<std::vector<std::string>> entries = folder_.ListFolder(folder);
  if (!entries.ok()) return entries.status();
  for (const std::string& entry : *entries) {
    if (!absl::StartsWith(entry, kIncomingPrefix) && !absl::StartsWith(entry, kSparePrefix) &&
        !absl::StartsWith(entry, kRemovedPrefix)) {
      continue;
    }
    if (absl::Status removed = folder_.RemoveAll(absl::StrCat(folder, "/", entry)); !removed.ok()) return removed;
  }
  return absl::OkStatus();
}

absl::Status ModelStore::RecoverCurrent(const std::string& folder, StoredModel& model) {
  const auto target_of = [&](absl::string_view link) -> uint64_t {
    absl::StatusOr<std::string> target = folder_.ReadLink(absl::StrCat(folder, link));
    if (!target.ok()) return 0;
    const uint64_t version = ParseVersion(*target).value_or(0);
    for (const VersionRecord& held : model.versions) {
      if (held.version == version) return version;
    }
    return 0;
  };
  if (target_of(kNext) != 0) {
    if (absl::Status renamed = folder_.Rename(absl::StrCat(folder, kNext), absl::StrCat(folder, kCurrent));
        !renamed.ok())
      return renamed;
  } else if (absl::Status removed = folder_.RemoveAll(absl::StrCat(folder, kNext)); !removed.ok()) {
    return removed;
  }
  model.current = target_of(kCurrent);
  if (model.current == 0 && !model.versions.empty()) {
    warnings_.push_back(
        absl::StrCat("model '", model.name, "' has versions but none is current; push or roll back to set one"));
  }
  return folder_.SyncFolder(folder);
}

absl::Status ModelStore::CheckPlace(const std::string& model, uint64_t version) const {
  const std::string place = VersionName(model, version);
  const absl::StatusOr<DataFolder::Kind> kind = folder_.KindOf(place);
  if (!kind.ok()) return kind.status();
  if (*kind == DataFolder::Kind::kNothing) return absl::OkStatus();
  // Recovery left it alone because it cannot be read: better told now than by the commit.
  return absl::FailedPreconditionError(
      absl::StrCat("version ", version, " of model '", model, "' cannot be begun: ", folder_.PathOf(place),
                   *kind == DataFolder::Kind::kLink ? ", a symbolic link," : "",
                   " is in its place and is not served; remove it, or push a higher version"));
}

absl::StatusOr<NewFile> ModelStore::CreateIn(const std::string& folder, absl::string_view bytes) {
  const std::string name = absl::StrCat(folder, kFile);
  const absl::Status made = folder_.MakeFolder(folder);
  absl::StatusOr<FileDescriptor> file =
      made.ok() ? folder_.CreateFile(name, bytes) : absl::StatusOr<FileDescriptor>(made);
  if (file.ok()) return NewFile{folder_.PathOf(name), *std::move(file)};
  static_cast<void>(folder_.RemoveAll(folder));
  return file.status();
}

absl::StatusOr<NewFile> ModelStore::CreateIncoming(const std::string& model, const std::string& update_id,
                                                   absl::string_view header) {
  return CreateIn(IncomingName(model, update_id), header);
}

absl::StatusOr<NewFile> ModelStore::CreateSpare(const std::string& model, const std::string& id,
                                                absl::string_view header) {
  return CreateIn(SpareName(model, id), header);
}

absl::Status ModelStore::SetSpareHeader(const std::string& model, const std::string& id, absl::string_view header) {
  return folder_.OverwriteFile(absl::StrCat(SpareName(model, id), kFile), header);
}

absl::Status ModelStore::AdoptSpare(const std::string& model, const std::string& id, const std::string& update_id) {
  return folder_.Rename(SpareName(model, id), IncomingName(model, update_id));
}

absl::Status ModelStore::DiscardSpare(const std::string& model, const std::string& id) {
  return folder_.RemoveAll(SpareName(model, id));
}

absl::Status ModelStore::DiscardIncoming(const std::string& model, const std::string& update_id) {
  return folder_.RemoveAll(IncomingName(model, update_id));
}

absl::StatusOr<VersionRecord> ModelStore::Publish(const std::string& model, const std::string& update_id,
                                                  uint64_t version, const SafetensorsLayout& layout,
                                                  uint32_t manifest_crc32c) {
  const std::string& folder = model;
  const std::string incoming = IncomingName(model, update_id);
  const std::string place = VersionName(model, version);
  const std::string next = absl::StrCat(folder, kNext);
  const absl::StatusOr<std::string> previous = folder_.ReadLink(absl::StrCat(folder, kCurrent));

  absl::Status status = folder_.SetModifiedNow(absl::StrCat(incoming, kFile));
  if (!status.ok()) return status;
  absl::StatusOr<VersionRecord> record = RecordIncoming(incoming, version, layout, manifest_crc32c);
  if (!record.ok()) return record;
  status = folder_.SyncFolder(incoming);
  if (status.ok()) status = folder_.MakeLink(absl::StrCat(version), next);
  // The intent must be on the medium before the version is.
  if (status.ok()) status = folder_.SyncFolder(folder);
  if (status.ok()) status = folder_.Rename(incoming, place);
  if (!status.ok()) {
    static_cast<void>(folder_.RemoveAll(next));
    return status;
  }
  status = folder_.Rename(next, absl::StrCat(folder, kCurrent));
  if (status.ok()) status = folder_.SyncFolder(folder);
  if (!status.ok()) {
    // In its place, but not surely current: taking it back leaves no doubt. Unless `current` names it all the same:
    // what a reader may follow must stay.
    TakeBack(folder, previous);
    const absl::StatusOr<std::string> current = folder_.ReadLink(absl::StrCat(folder, kCurrent));
    // Not there, or no link at all, are certain answers; any other error is none.
    const bool named = current.ok() ? *current == absl::StrCat(version)
                                    : !absl::IsNotFound(current.status()) && !absl::IsInvalidArgument(current.status());
    if (!named) {
      static_cast<void>(folder_.Rename(place, incoming));
      return status;
    }
  }
  record->path = VersionPath(model, version);
  return record;
}

void ModelStore::TakeBack(const std::string& folder, const absl::StatusOr<std::string>& previous) const {
  const std::string current = absl::StrCat(folder, kCurrent);
  const std::string next = absl::StrCat(folder, kNext);
  if (previous.ok()) {
    if (folder_.MakeLink(*previous, next).ok()) static_cast<void>(folder_.Rename(next, current));
    return;
  }
  // There was no link. Something else of that name cannot have been replaced by one, and is not ours to remove.
  if (absl::IsNotFound(previous.status())) static_cast<void>(folder_.RemoveAll(current));
  static_cast<void>(folder_.RemoveAll(next));
}

absl::Status ModelStore::SetCurrent(const std::string& model, uint64_t version) {
  const std::string& folder = model;
  const absl::StatusOr<DataFolder::Kind> kind = folder_.KindOf(VersionName(model, version));
  if (!kind.ok()) return kind.status();
  if (*kind != DataFolder::Kind::kFolder) {
    return absl::NotFoundError(absl::StrCat("model '", model, "' has no version ", version));
  }
  const std::string current = absl::StrCat(folder, kCurrent);
  const absl::StatusOr<std::string> previous = folder_.ReadLink(current);
  absl::Status status = folder_.MakeLink(absl::StrCat(version), absl::StrCat(folder, kNext));
  if (status.ok()) status = folder_.Rename(absl::StrCat(folder, kNext), current);
  if (status.ok()) status = folder_.SyncFolder(folder);
  // An intent that stayed would be carried through at the next start, though the caller was told that it failed.
  if (!status.ok()) TakeBack(folder, previous);
  return status;
}

absl::StatusOr<std::string> ModelStore::RemoveVersion(const std::string& model, uint64_t version) {
  const std::string removed = absl::StrCat(model, "/", kRemovedPrefix, version);
  // A version that is half removed must not look like a version: first the name goes, in one step.
  absl::Status status = folder_.RemoveAll(removed);
  if (status.ok()) status = folder_.Rename(VersionName(model, version), removed);
  if (status.ok()) status = folder_.SyncFolder(model);
  if (!status.ok()) return status;
  return removed;
}

absl::Status ModelStore::FreeRemoved(const std::string& removed) { return folder_.RemoveAll(removed); }

absl::StatusOr<OpenVersion> ModelStore::OpenForReading(const std::string& model, uint64_t version) const {
  return OpenVersionIn(VersionName(model, version));
}

absl::StatusOr<std::unique_ptr<MappedFile>> ModelStore::MapFile(const std::string& folder) const {
  const std::string name = absl::StrCat(folder, kFile);
  absl::StatusOr<FileDescriptor> file = folder_.OpenFile(name);
  if (!file.ok()) return file.status();
  return MappedFile::Map(*file, folder_.PathOf(name));
}

absl::StatusOr<OpenVersion> ModelStore::OpenVersionIn(const std::string& folder) const {
  absl::StatusOr<std::unique_ptr<MappedFile>> file = MapFile(folder);
  if (!file.ok()) return file.status();
  absl::StatusOr<SafetensorsLayout> layout =
      ParseSafetensors(folder_.PathOf(absl::StrCat(folder, kFile)), (*file)->bytes(), (*file)->bytes().size());
  if (!layout.ok()) return layout.status();
  return OpenVersion{*std::move(file), *std::move(layout)};
}

absl::StatusOr<VersionRecord> ModelStore::ReadRecord(const std::string& folder, uint64_t version) const {
  absl::StatusOr<OpenVersion> open = OpenVersionIn(folder);
  if (!open.ok()) return open.status();
  return MakeRecord(folder, version, open->layout, *open->file);
}

absl::StatusOr<VersionRecord> ModelStore::RecordIncoming(const std::string& folder, uint64_t version,
                                                         const SafetensorsLayout& layout,
                                                         uint32_t manifest_crc32c) const {
  absl::StatusOr<std::unique_ptr<MappedFile>> file = MapFile(folder);
  if (!file.ok()) return file.status();
  // Not parsed, which takes a fifth of a second for 100,000 tensors: it must be the header that we wrote.
  if ((*file)->bytes().size() == layout.file_bytes()) {
    VersionRecord record = MakeRecord(folder, version, layout, **file);
    if (record.manifest_crc32c == manifest_crc32c) return record;
  }
  return absl::DataLossError(
      absl::StrCat(folder_.PathOf(folder), kFile,
                   " is not what was written there; somebody else has changed it: push the version again"));
}

VersionRecord ModelStore::MakeRecord(const std::string& folder, uint64_t version, const SafetensorsLayout& layout,
                                     const MappedFile& file) const {
  VersionRecord record;
  record.version = version;
  record.total_bytes = layout.data_bytes;
  record.tensors = layout.tensors.size();
  record.manifest_crc32c = ExtendCrc32c(0, file.bytes().substr(0, layout.data_start));
  record.path = absl::StrCat(folder_.PathOf(folder), kFile);
  // Publish set it: writes through a mapping do not.
  record.commit_time = absl::FromUnixNanos(file.identity().modified_ns);
  return record;
}

absl::StatusOr<uint64_t> ModelStore::FreeBytes() const { return folder_.FreeBytes(); }

std::string ModelStore::VersionFolder(const std::string& model, uint64_t version) const {
  return folder_.PathOf(VersionName(model, version));
}

std::string ModelStore::VersionPath(const std::string& model, uint64_t version) const {
  return absl::StrCat(VersionFolder(model, version), kFile);
}

}  // namespace weightstream
