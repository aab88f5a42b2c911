// The files of committed versions, and the atomic steps by which they appear and go.
//
//   DATA_DIR/.lock                                      held by the one server that uses the folder
//   DATA_DIR/MODEL/VERSION/model.safetensors            a committed version, never written again
//   DATA_DIR/MODEL/current -> VERSION                   what readers follow
//   DATA_DIR/MODEL/.incoming-UPDATE/model.safetensors   what an update writes; nobody else's business
//   DATA_DIR/MODEL/.spare-ID/model.safetensors          memory made ready for a version to come
//   DATA_DIR/MODEL/.next -> VERSION                     the intent of a commit
//   DATA_DIR/MODEL/.removed-VERSION                     on its way out
//
// A commit is: sync the file; .next -> VERSION; rename .incoming-UPDATE to VERSION; rename .next over current. After a
// crash at any moment, recovery knows what to do from the names alone: .next whose VERSION exists is carried through,
// any other .next and every .incoming-, .spare- and .removed- folder go. So `current` always points at a whole version,
// and a version folder is always whole. No symbolic link is followed on the way to any of it (server/data_folder.h).
#ifndef WEIGHTSTREAM_SERVER_MODEL_STORE_H_
#define WEIGHTSTREAM_SERVER_MODEL_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/data_folder.h"
#include "tensor/file_descriptor.h"
#include "tensor/mapped_file.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

// What is known of a committed version without opening it.
struct VersionRecord {
  uint64_t version = 0;
  uint64_t total_bytes = 0;
  uint64_t tensors = 0;
  uint32_t manifest_crc32c = 0;
  absl::Time commit_time;
  std::string path;
  // How many other processes have its memory open; see Model::PinVersion.
  uint32_t exports = 0;
};

struct StoredModel {
  std::string name;
  // 0 if nothing is current.
  uint64_t current = 0;
  // Ascending.
  std::vector<VersionRecord> versions;
};

// A committed version opened for reading. Stays readable whatever happens to its name.
struct OpenVersion {
  std::unique_ptr<MappedFile> file;
  SafetensorsLayout layout;

  // The bytes of layout.tensors[index].
  absl::string_view data(size_t index) const;
};

// A file that is to be written, open for it.
struct NewFile {
  std::string path;
  FileDescriptor file;
};

// Has no state but the folder. Calls for different models may run at once; for one model the caller keeps them apart
// (Model does).
class ModelStore {
 public:
  // Makes the folder where missing, locks it, recovers, and lists what is there. Errors: the folder cannot be made or
  // written (PERMISSION_DENIED ...), another server holds it (FAILED_PRECONDITION). A version that cannot be read is
  // left alone and told in `warnings`.
  static absl::StatusOr<std::unique_ptr<ModelStore>> Open(const std::string& data_dir);
  ~ModelStore() = default;
  ModelStore(const ModelStore&) = delete;
  ModelStore& operator=(const ModelStore&) = delete;

  // What recovery found.
  const std::vector<StoredModel>& recovered() const { return recovered_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

  // Where a version lies, or would.
  std::string VersionFolder(const std::string& model, uint64_t version) const;
  std::string VersionPath(const std::string& model, uint64_t version) const;

  // OK if nothing lies where a version is to go; FAILED_PRECONDITION says what does.
  absl::Status CheckPlace(const std::string& model, uint64_t version) const;

  // Makes a place for an incoming version: a file with this header and nothing else.
  absl::StatusOr<NewFile> CreateIncoming(const std::string& model, const std::string& update_id,
                                         absl::string_view header);

  // Removes what CreateIncoming made. Nothing there is fine.
  absl::Status DiscardIncoming(const std::string& model, const std::string& update_id);

  // A file with this header and nothing else, for memory that a later update of the model is to take over. `id` is
  // unique among the model's spares.
  absl::StatusOr<NewFile> CreateSpare(const std::string& model, const std::string& id, absl::string_view header);

  // Replaces the spare's header by another of the same length.
  absl::Status SetSpareHeader(const std::string& model, const std::string& id, absl::string_view header);

  // Makes a spare the place of an incoming version; whoever has the file open keeps it.
  absl::Status AdoptSpare(const std::string& model, const std::string& id, const std::string& update_id);

  // Removes a spare. Nothing there is fine.
  absl::Status DiscardSpare(const std::string& model, const std::string& id);

  // Makes the incoming file, whose bytes the caller has synced, the current version. Either all of it happens or, on an
  // error, nothing that a reader sees. DATA_LOSS if the file is not as long as `layout` says, or its header is not the
  // one of this CRC32C.
  absl::StatusOr<VersionRecord> Publish(const std::string& model, const std::string& update_id, uint64_t version,
                                        const SafetensorsLayout& layout, uint32_t manifest_crc32c);

  // Makes a version that is there current; on an error the one before stays.
  absl::Status SetCurrent(const std::string& model, uint64_t version);

  // Removes a version that is not current from its place. Readers that have it open keep it. Returns where its bytes
  // are until FreeRemoved, which takes as long as they are many.
  absl::StatusOr<std::string> RemoveVersion(const std::string& model, uint64_t version);
  // For different folders also at once, and beside every other call.
  absl::Status FreeRemoved(const std::string& removed);

  absl::StatusOr<OpenVersion> OpenForReading(const std::string& model, uint64_t version) const;

  absl::StatusOr<uint64_t> FreeBytes() const;
  const std::string& data_dir() const { return folder_.path(); }

 private:
  ModelStore(DataFolder folder, FileDescriptor lock) : folder_(std::move(folder)), lock_(std::move(lock)) {}

  absl::Status Recover();
  absl::StatusOr<StoredModel> RecoverModel(const std::string& name);
  absl::Status ClearLeftovers(const std::string& folder);
  absl::Status RecoverCurrent(const std::string& folder, StoredModel& model);
  // Whether a name is a folder; a link that looks like one is told in `warnings`.
  absl::StatusOr<bool> IsOurFolder(const std::string& name);

  // What follows deals in names below the data directory.
  // Makes the folder and, in it, a file with these first bytes; both or nothing.
  absl::StatusOr<NewFile> CreateIn(const std::string& folder, absl::string_view bytes);
  absl::StatusOr<std::unique_ptr<MappedFile>> MapFile(const std::string& folder) const;
  absl::StatusOr<OpenVersion> OpenVersionIn(const std::string& folder) const;
  absl::StatusOr<VersionRecord> ReadRecord(const std::string& folder, uint64_t version) const;
  // The same of an incoming file, which must be as it was written.
  absl::StatusOr<VersionRecord> RecordIncoming(const std::string& folder, uint64_t version,
                                               const SafetensorsLayout& layout, uint32_t manifest_crc32c) const;
  VersionRecord MakeRecord(const std::string& folder, uint64_t version, const SafetensorsLayout& layout,
                           const MappedFile& file) const;
  // Makes `current` what it was before a change that failed half-way.
  void TakeBack(const std::string& folder, const absl::StatusOr<std::string>& previous) const;

  const DataFolder folder_;
  // Held for as long as the store is there.
  const FileDescriptor lock_;
  std::vector<StoredModel> recovered_;
  std::vector<std::string> warnings_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_MODEL_STORE_H_
