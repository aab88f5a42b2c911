// The seam between a model and where its versions have their bytes: files below the data directory (file_versions), or
// memory of a device (device_versions). A model decides what begins, becomes current and goes; the medium does it.
#ifndef WEIGHTSTREAM_SERVER_VERSION_MEDIUM_H_
#define WEIGHTSTREAM_SERVER_VERSION_MEDIUM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "kernels/device.h"
#include "server/model_store.h"
#include "server/registered_targets.h"
#include "server/update.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

// A committed version opened for reading: readable whatever is committed or removed meanwhile. Thread-safe.
class ReadableVersion {
 public:
  virtual ~ReadableVersion() = default;

  virtual const SafetensorsLayout& layout() const = 0;

  // Bytes of the data section where they lie, valid as long as this object; none where this process cannot read them in
  // place, and Read brings them. Requires a range within the data section, as below.
  virtual absl::optional<absl::string_view> InPlace(ByteRange range) const = 0;

  // How the tensor of this index in the layout is held.
  virtual HeldTensor HowHeld(uint32_t tensor) const {
    const PlacedTensor& placed = layout().tensors[tensor];
    return {.dtype = placed.spec.dtype, .bytes = placed.range.size()};
  }

  // OK if Read can bring the tensor as it was pushed; else FAILED_PRECONDITION, naming it and saying why not.
  virtual absl::Status CheckReadable(uint32_t tensor) const { return absl::OkStatus(); }

  // Copies bytes of one tensor, by their place in the data section. FAILED_PRECONDITION if the version is being, or
  // was, overwritten in place: what was copied is then not to be used; or as CheckReadable.
  virtual absl::Status Read(ByteRange range, char* destination) const = 0;

  // The CRC32C of each block of `block_bytes` bytes of a range of what is held of a tensor (the last may be shorter),
  // computed where they lie. FAILED_PRECONDITION if the version is being, or was, overwritten in place. Requires
  // block_bytes a multiple of kDigestBlockMultiple.
  virtual absl::StatusOr<std::vector<uint32_t>> Digest(uint32_t tensor, ByteRange held, uint64_t block_bytes) const = 0;
};

// What an incoming version needs memory for.
struct ArenaRequest {
  std::string model;
  std::string update_id;
  std::shared_ptr<const SafetensorsLayout> layout;
  // The layout's, which must outlive the call; empty where it has yet to be written, by whoever needs it.
  absl::string_view header;
  // For messages: "version 3 of model 'm'".
  std::string subject;
};

// Thread-safe for different models; for one model the caller keeps the calls that change it apart (Model does).
class VersionMedium {
 public:
  virtual ~VersionMedium() = default;

  // What was committed before this server started.
  virtual std::vector<StoredModel> Recovered() const = 0;

  // FAILED_PRECONDITION if something is in the version's place that is not served.
  virtual absl::Status CheckPlace(const std::string& model, uint64_t version) const = 0;

  // Memory for an incoming version. RESOURCE_EXHAUSTED, with what is needed and free, if there is no room.
  virtual absl::StatusOr<std::shared_ptr<Target>> Provide(const ArenaRequest& request) = 0;

  // How many bytes more than are free now Provide would need; 0 if there is room, or if it is not known.
  virtual uint64_t LackingBytes(const ArenaRequest& request) const = 0;

  // Makes room for a version for which Provide has none: removes of these held versions of the model, from the first
  // on, as many as it takes, if that is enough, and returns them. One that is being read gives no room before its
  // readers are through, for whom it waits a short time. RESOURCE_EXHAUSTED, with nothing removed, where it would not
  // be enough; says what would be, and what there is. Requires may_overwrite().
  virtual absl::StatusOr<std::vector<uint64_t>> MakeRoom(const ArenaRequest& request,
                                                         const std::vector<uint64_t>& removable) = 0;

  // True if an update for which there is no room may be written over the current version: where no reader is promised
  // that its memory stays as it is.
  virtual bool may_overwrite() const = 0;
  // The memory of a held version, for the incoming one to be written over it. FAILED_PRECONDITION if it may not be or
  // is too small; says why. Requires may_overwrite().
  virtual absl::StatusOr<std::shared_ptr<Target>> ProvideInPlace(const ArenaRequest& request, uint64_t over) = 0;
  // Bytes are about to be written over the version: it is not held any more, and who has it open gets no more of it.
  // Requires it held: a version that an update is to be written over must not be removed before.
  virtual void Overwritten(const std::string& model, uint64_t version) = 0;

  // Gives back what Provide made for an update that ends without a commit.
  virtual absl::Status Discard(const Update& update) = 0;

  // Makes what an update brought, every byte of which is in its target and synced, the current version. Either all of
  // it happens or, on an error, nothing that a reader sees.
  virtual absl::StatusOr<VersionRecord> Publish(const Update& update) = 0;

  // Makes a held version current; on an error the one before stays.
  virtual absl::Status SetCurrent(const std::string& model, uint64_t version) = 0;

  // Takes a version that is not current out of its place. Its memory goes in the background, and once its readers have
  // closed it.
  virtual absl::Status Remove(const std::string& model, uint64_t version) = 0;

  // To be called last in a commit: makes memory ready for the next version, where that is worth while, and lets go of
  // the update in the background.
  virtual void Committed(std::shared_ptr<Update> update) = 0;
  // What is ready of it, in bytes of data.
  virtual uint64_t PreparedBytes(const std::string& model) const = 0;

  // NOT_FOUND if it is not held.
  virtual absl::StatusOr<std::shared_ptr<const ReadableVersion>> Open(const std::string& model,
                                                                      uint64_t version) const = 0;

  // A held version's memory, as it is told to other processes of this machine; the caller sees to it that it stays.
  // FAILED_PRECONDITION for files, which need no such thing; or the device's error.
  virtual absl::StatusOr<SharedMemory> Share(const std::string& model, uint64_t version) const = 0;

  // Where a version's file lies; empty where there are none.
  virtual std::string Path(const std::string& model, uint64_t version) const = 0;
  // That file's folder; empty likewise.
  virtual std::string Folder(const std::string& model, uint64_t version) const = 0;

  // Does what is left to do in the background, and ends that. Idempotent; from one thread at a time.
  virtual void Stop() = 0;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_VERSION_MEDIUM_H_
