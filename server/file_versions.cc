#include "server/file_versions.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "server/log.h"

namespace weightstream {
namespace {

// A version's file, mapped.
class MappedVersion final : public ReadableVersion {
 public:
  explicit MappedVersion(OpenVersion open) : open_(std::move(open)) {}

  const SafetensorsLayout& layout() const override { return open_.layout; }

  absl::optional<absl::string_view> InPlace(ByteRange range) const override { return Bytes(range); }

  absl::Status Read(ByteRange range, char* destination) const override {
    const absl::string_view bytes = Bytes(range);
    std::copy(bytes.begin(), bytes.end(), destination);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<uint32_t>> Digest(uint32_t tensor, ByteRange held, uint64_t block_bytes) const override {
    std::vector<uint32_t> digests;
    const uint64_t begin = open_.layout.tensors[tensor].range.begin;
    for (absl::string_view rest = Bytes({begin + held.begin, begin + held.end}); !rest.empty();) {
      const absl::string_view block = rest.substr(0, block_bytes);
      digests.push_back(ExtendCrc32c(0, block));
      rest.remove_prefix(block.size());
    }
    return digests;
  }

 private:
  absl::string_view Bytes(ByteRange range) const {
    return open_.file->bytes().substr(open_.layout.data_start + range.begin, range.size());
  }

  const OpenVersion open_;
};

}  // namespace

FileVersions::FileVersions(ModelStore& store, Device& device, ArenaSupply::Options options)
    : store_(store), arenas_(store, device, std::move(options)) {}

absl::Status FileVersions::CheckPlace(const std::string& model, uint64_t version) const {
  return store_.CheckPlace(model, version);
}

absl::StatusOr<std::shared_ptr<Target>> FileVersions::Provide(const ArenaRequest& request) {
  return arenas_.Provide(request.model, request.update_id, request.layout, request.header, request.subject);
}

absl::StatusOr<std::vector<uint64_t>> FileVersions::MakeRoom(const ArenaRequest& request,
                                                             const std::vector<uint64_t>& removable) {
  return absl::ResourceExhaustedError(
      absl::StrCat(request.subject, ": files make no room for one another; keep fewer (--keep-versions)"));
}

absl::StatusOr<std::shared_ptr<Target>> FileVersions::ProvideInPlace(const ArenaRequest& request, uint64_t over) {
  return absl::FailedPreconditionError(
      absl::StrCat(request.subject, " cannot be written over version ", over, ": files are never written again"));
}

absl::Status FileVersions::Discard(const Update& update) {
  return store_.DiscardIncoming(update.identity().model, update.identity().id);
}

absl::StatusOr<VersionRecord> FileVersions::Publish(const Update& update) {
  const UpdateIdentity& identity = update.identity();
  return store_.Publish(identity.model, identity.id, identity.version, update.layout(), update.manifest_crc32c());
}

absl::Status FileVersions::SetCurrent(const std::string& model, uint64_t version) {
  return store_.SetCurrent(model, version);
}

absl::Status FileVersions::Remove(const std::string& model, uint64_t version) {
  absl::StatusOr<std::string> removed = store_.RemoveVersion(model, version);
  if (!removed.ok()) return removed.status();
  // To free a version's memory takes a good part of the time of receiving one: nobody waits for it.
  arenas_.InBackground([this, model, removed = *std::move(removed)] {
    const absl::Status freed = store_.FreeRemoved(removed);
    if (!freed.ok()) LogWarning("cannot_free", {{"model", model}, {"error", std::string(freed.message())}});
  });
  return absl::OkStatus();
}

void FileVersions::Committed(std::shared_ptr<Update> update) {
  // In the background, since to unmap takes its time too; after what the commit removed is freed, so that the spare may
  // have the room.
  arenas_.InBackground([this, update = std::move(update)] {
    arenas_.MakeSpare(update->identity().model, update->shared_layout(), std::as_const(*update).target());
  });
}

absl::StatusOr<std::shared_ptr<const ReadableVersion>> FileVersions::Open(const std::string& model,
                                                                          uint64_t version) const {
  absl::StatusOr<OpenVersion> open = store_.OpenForReading(model, version);
  if (!open.ok()) return open.status();
  return std::make_shared<const MappedVersion>(*std::move(open));
}

absl::StatusOr<SharedMemory> FileVersions::Share(const std::string& model, uint64_t version) const {
  return absl::FailedPreconditionError(absl::StrCat("version ", version, " of model '", model, "' is the file ",
                                                    Path(model, version), ": open that instead of an export"));
}

std::string FileVersions::Path(const std::string& model, uint64_t version) const {
  return store_.VersionPath(model, version);
}

std::string FileVersions::Folder(const std::string& model, uint64_t version) const {
  return store_.VersionFolder(model, version);
}

}  // namespace weightstream
