#include "server/model_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "server/durable_files.h"
#include "tensor/atomic_file.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

constexpr absl::string_view kIncomingPrefix = ".incoming-";
constexpr absl::string_view kSparePrefix = ".spare-";
constexpr absl::string_view kRemovedPrefix = ".removed-";
constexpr absl::string_view kCurrent = "/current";
constexpr absl::string_view kNext = "/.next";
constexpr absl::string_view kFile = "/model.safetensors";

// The version that a folder's or a link's text names, in the one form that we write.
absl::StatusOr<uint64_t> ParseVersion(absl::string_view text) {
  uint64_t version = 0;
  if (!absl::SimpleAtoi(text, &version) || version == 0 || absl::StrCat(version) != text) {
    return absl::InvalidArgumentError(absl::StrCat("'", Printable(text), "' is not a version"));
  }
  return version;
}

// Two servers on one folder would remove each other's files. The lock goes with the process, however it ends.
absl::StatusOr<int> LockFolder(const std::string& data_dir) {
  const std::string path = absl::StrCat(data_dir, "/.lock");
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
  if (fd < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write to the data directory ", data_dir,
                                                   " (choose another with --data-dir, or give this user access)"));
  }
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const int error = errno;
  ::close(fd);
  if (error != EWOULDBLOCK) return absl::ErrnoToStatus(error, absl::StrCat("cannot lock ", path));
  return absl::FailedPreconditionError(
      absl::StrCat("the data directory ", data_dir,
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
  // The folder itself may be a link, of its owner's making; below it none is followed.
  std::error_code error;
  const bool link = std::filesystem::is_symlink(data_dir, error);
  const std::string folder = link ? std::filesystem::canonical(data_dir, error).string() : data_dir;
  if (link && error)
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot follow the data directory ", data_dir));
  if (absl::Status made = MakeFolder(folder); !made.ok()) {
    return absl::Status(made.code(), absl::StrCat("cannot use the data directory ", folder, ": ", made.message(),
                                                  "; choose another with --data-dir, or give this user access"));
  }
  absl::StatusOr<int> lock = LockFolder(folder);
  if (!lock.ok()) return lock.status();
  std::unique_ptr<ModelStore> store(new ModelStore(folder, *lock));
  if (absl::Status recovered = store->Recover(); !recovered.ok()) return recovered;
  return store;
}

ModelStore::~ModelStore() { ::close(lock_fd_); }

absl::Status ModelStore::Recover() {
  absl::StatusOr<std::vector<std::string>> names = ListFolder(data_dir_);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    // What is not ours (a dot file, a name that no model may have) is left alone.
    if (!ValidateModelName(name).ok() || !IsFolder(ModelFolder(name))) continue;
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

absl::StatusOr<StoredModel> ModelStore::RecoverModel(const std::string& name) {
  const std::string folder = ModelFolder(name);
  if (absl::Status cleared = ClearLeftovers(folder); !cleared.ok()) return cleared;
  StoredModel model;
  model.name = name;
  absl::StatusOr<std::vector<std::string>> entries = ListFolder(folder);
  if (!entries.ok()) return entries.status();
  for (const std::string& entry : *entries) {
    absl::StatusOr<uint64_t> version = ParseVersion(entry);
    if (!version.ok() || !IsFolder(VersionFolder(name, *version))) continue;
    absl::StatusOr<VersionRecord> record = ReadRecord(VersionFolder(name, *version), *version);
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
  absl::StatusOr<std::vector<std::string>> entries = ListFolder(folder);
  if (!entries.ok()) return entries.status();
  for (const std::string& entry : *entries) {
    if (!absl::StartsWith(entry, kIncomingPrefix) && !absl::StartsWith(entry, kSparePrefix) &&
        !absl::StartsWith(entry, kRemovedPrefix)) {
      continue;
    }
    if (absl::Status removed = RemoveAll(absl::StrCat(folder, "/", entry)); !removed.ok()) return removed;
  }
  return absl::OkStatus();
}

absl::Status ModelStore::RecoverCurrent(const std::string& folder, StoredModel& model) {
  const auto target_of = [&](absl::string_view link) -> uint64_t {
    absl::StatusOr<std::string> target = ReadLink(absl::StrCat(folder, link));
    if (!target.ok()) return 0;
    const uint64_t version = ParseVersion(*target).value_or(0);
    for (const VersionRecord& held : model.versions) {
      if (held.version == version) return version;
    }
    return 0;
  };
  if (target_of(kNext) != 0) {
    if (absl::Status renamed = Rename(absl::StrCat(folder, kNext), absl::StrCat(folder, kCurrent)); !renamed.ok())
      return renamed;
  } else if (absl::Status removed = RemoveAll(absl::StrCat(folder, kNext)); !removed.ok()) {
    return removed;
  }
  model.current = target_of(kCurrent);
  if (model.current == 0 && !model.versions.empty()) {
    warnings_.push_back(
        absl::StrCat("model '", model.name, "' has versions but none is current; push or roll back to set one"));
  }
  return SyncFolder(folder);
}

absl::StatusOr<std::string> ModelStore::CreateIn(const std::string& folder, absl::string_view bytes) {
  const std::string path = absl::StrCat(folder, kFile);
  absl::Status status = MakeFolder(folder);
  if (status.ok()) status = CreateFile(path, bytes);
  if (status.ok()) return path;
  static_cast<void>(RemoveAll(folder));
  return status;
}

absl::StatusOr<std::string> ModelStore::CreateIncoming(const std::string& model, const std::string& update_id,
                                                       absl::string_view header) {
  return CreateIn(IncomingFolder(model, update_id), header);
}

absl::StatusOr<std::string> ModelStore::CreateSpare(const std::string& model, const std::string& id) {
  return CreateIn(SpareFolder(model, id), "");
}

absl::Status ModelStore::AdoptSpare(const std::string& model, const std::string& id, const std::string& update_id,
                                    absl::string_view header) {
  const std::string folder = SpareFolder(model, id);
  if (absl::Status written = OverwriteFile(absl::StrCat(folder, kFile), header); !written.ok()) return written;
  return Rename(folder, IncomingFolder(model, update_id));
}

absl::Status ModelStore::DiscardSpare(const std::string& model, const std::string& id) {
  return RemoveAll(SpareFolder(model, id));
}

absl::Status ModelStore::DiscardIncoming(const std::string& model, const std::string& update_id) {
  return RemoveAll(IncomingFolder(model, update_id));
}

absl::StatusOr<VersionRecord> ModelStore::Publish(const std::string& model, const std::string& update_id,
                                                  uint64_t version, const SafetensorsLayout& layout,
                                                  uint32_t manifest_crc32c) {
  const std::string folder = ModelFolder(model);
  const std::string incoming = IncomingFolder(model, update_id);
  const std::string place = VersionFolder(model, version);
  const std::string next = absl::StrCat(folder, kNext);
  const absl::StatusOr<std::string> previous = ReadLink(absl::StrCat(folder, kCurrent));

  absl::Status status = SetModifiedNow(absl::StrCat(incoming, kFile));
  if (!status.ok()) return status;
  absl::StatusOr<VersionRecord> record = RecordIncoming(incoming, version, layout, manifest_crc32c);
  if (!record.ok()) return record;
  status = SyncFolder(incoming);
  if (status.ok()) status = MakeLink(absl::StrCat(version), next);
  // The intent must be on the medium before the version is.
  if (status.ok()) status = SyncFolder(folder);
  if (status.ok()) status = Rename(incoming, place);
  if (!status.ok()) {
    static_cast<void>(RemoveAll(next));
    return status;
  }
  status = Rename(next, absl::StrCat(folder, kCurrent));
  if (status.ok()) status = SyncFolder(folder);
  if (!status.ok()) {
    // In its place, but not surely current: taking it back leaves no doubt. Unless `current` names it all the same:
    // what a reader may follow must stay.
    TakeBack(folder, previous);
    const absl::StatusOr<std::string> current = ReadLink(absl::StrCat(folder, kCurrent));
    // Not there, or no link at all, are certain answers; any other error is none.
    const bool named = current.ok() ? *current == absl::StrCat(version)
                                    : !absl::IsNotFound(current.status()) && !absl::IsInvalidArgument(current.status());
    if (!named) {
      static_cast<void>(Rename(place, incoming));
      return status;
    }
  }
  record->path = absl::StrCat(place, kFile);
  return record;
}

void ModelStore::TakeBack(const std::string& folder, const absl::StatusOr<std::string>& previous) {
  const std::string current = absl::StrCat(folder, kCurrent);
  const std::string next = absl::StrCat(folder, kNext);
  if (previous.ok()) {
    if (MakeLink(*previous, next).ok()) static_cast<void>(Rename(next, current));
    return;
  }
  // There was no link. Something else of that name cannot have been replaced by one, and is not ours to remove.
  if (absl::IsNotFound(previous.status())) static_cast<void>(RemoveAll(current));
  static_cast<void>(RemoveAll(next));
}

absl::Status ModelStore::SetCurrent(const std::string& model, uint64_t version) {
  const std::string folder = ModelFolder(model);
  if (!IsFolder(VersionFolder(model, version))) {
    return absl::NotFoundError(absl::StrCat("model '", model, "' has no version ", version));
  }
  const std::string current = absl::StrCat(folder, kCurrent);
  const absl::StatusOr<std::string> previous = ReadLink(current);
  absl::Status status = MakeLink(absl::StrCat(version), absl::StrCat(folder, kNext));
  if (status.ok()) status = Rename(absl::StrCat(folder, kNext), current);
  if (status.ok()) status = SyncFolder(folder);
  // An intent that stayed would be carried through at the next start, though the caller was told that it failed.
  if (!status.ok()) TakeBack(folder, previous);
  return status;
}

absl::StatusOr<std::string> ModelStore::RemoveVersion(const std::string& model, uint64_t version) {
  const std::string removed = absl::StrCat(ModelFolder(model), "/", kRemovedPrefix, version);
  // A version that is half removed must not look like a version: first the name goes, in one step.
  absl::Status status = RemoveAll(removed);
  if (status.ok()) status = Rename(VersionFolder(model, version), removed);
  if (status.ok()) status = SyncFolder(ModelFolder(model));
  if (!status.ok()) return status;
  return removed;
}

absl::Status ModelStore::FreeRemoved(const std::string& folder) { return RemoveAll(folder); }

absl::StatusOr<OpenVersion> ModelStore::OpenForReading(const std::string& model, uint64_t version) const {
  return OpenFolder(VersionFolder(model, version));
}

absl::StatusOr<OpenVersion> ModelStore::OpenFolder(const std::string& folder) {
  const std::string path = absl::StrCat(folder, kFile);
  absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  absl::StatusOr<SafetensorsLayout> layout = ParseSafetensors(path, (*file)->bytes(), (*file)->bytes().size());
  if (!layout.ok()) return layout.status();
  return OpenVersion{*std::move(file), *std::move(layout)};
}

absl::StatusOr<VersionRecord> ModelStore::ReadRecord(const std::string& folder, uint64_t version) {
  absl::StatusOr<OpenVersion> open = OpenFolder(folder);
  if (!open.ok()) return open.status();
  return MakeRecord(folder, version, open->layout, *open->file);
}

absl::StatusOr<VersionRecord> ModelStore::RecordIncoming(const std::string& folder, uint64_t version,
                                                         const SafetensorsLayout& layout, uint32_t manifest_crc32c) {
  const std::string path = absl::StrCat(folder, kFile);
  absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  // Not parsed, which takes a fifth of a second for 100,000 tensors: it must be the header that we wrote.
  if ((*file)->bytes().size() == layout.file_bytes()) {
    VersionRecord record = MakeRecord(folder, version, layout, **file);
    if (record.manifest_crc32c == manifest_crc32c) return record;
  }
  return absl::DataLossError(
      absl::StrCat(path, " is not what was written there; somebody else has changed it: push the version again"));
}

VersionRecord ModelStore::MakeRecord(const std::string& folder, uint64_t version, const SafetensorsLayout& layout,
                                     const MappedFile& file) {
  VersionRecord record;
  record.version = version;
  record.total_bytes = layout.data_bytes;
  record.tensors = layout.tensors.size();
  record.manifest_crc32c = ExtendCrc32c(0, file.bytes().substr(0, layout.data_start));
  record.path = absl::StrCat(folder, kFile);
  // Publish set it: writes through a mapping do not.
  record.commit_time = absl::FromUnixNanos(file.identity().modified_ns);
  return record;
}

absl::StatusOr<uint64_t> ModelStore::FreeBytes() const { return weightstream::FreeBytes(data_dir_); }

std::string ModelStore::ModelFolder(const std::string& model) const { return absl::StrCat(data_dir_, "/", model); }

std::string ModelStore::IncomingFolder(const std::string& model, const std::string& update_id) const {
  return absl::StrCat(ModelFolder(model), "/", kIncomingPrefix, update_id);
}

std::string ModelStore::SpareFolder(const std::string& model, const std::string& id) const {
  return absl::StrCat(ModelFolder(model), "/", kSparePrefix, id);
}

std::string ModelStore::VersionFolder(const std::string& model, uint64_t version) const {
  return absl::StrCat(ModelFolder(model), "/", version);
}

std::string ModelStore::VersionPath(const std::string& model, uint64_t version) const {
  return absl::StrCat(VersionFolder(model, version), kFile);
}

}  // namespace weightstream
