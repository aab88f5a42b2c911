// Versions in a device's memory: one allocation each, in the layout of a safetensors file's data section. Their headers
// are kept in host memory and nothing is written to disk, so that a restart begins with nothing.
//
// Where there is no room for a second version, the next one may be written over the current one (Model decides): that
// version then ends for all who read it, with the first byte.
#ifndef WEIGHTSTREAM_SERVER_DEVICE_VERSIONS_H_
#define WEIGHTSTREAM_SERVER_DEVICE_VERSIONS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/version_medium.h"
#include "tensor/monotonic_cond_var.h"

namespace weightstream {

class DeviceVersions final : public VersionMedium {
 public:
  // `device`, which keeps no files, outlives this and every version that was opened.
  explicit DeviceVersions(Device& device);
  ~DeviceVersions() override { Stop(); }

  std::vector<StoredModel> Recovered() const override { return {}; }
  absl::Status CheckPlace(const std::string& model, uint64_t version) const override { return absl::OkStatus(); }
  absl::StatusOr<std::shared_ptr<Target>> Provide(const ArenaRequest& request) override ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t LackingBytes(const ArenaRequest& request) const override;
  absl::StatusOr<std::vector<uint64_t>> MakeRoom(const ArenaRequest& request,
                                                 const std::vector<uint64_t>& removable) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool may_overwrite() const override { return true; }
  absl::StatusOr<std::shared_ptr<Target>> ProvideInPlace(const ArenaRequest& request, uint64_t over) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Overwritten(const std::string& model, uint64_t version) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Discard(const Update& update) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<VersionRecord> Publish(const Update& update) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SetCurrent(const std::string& model, uint64_t version) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Remove(const std::string& model, uint64_t version) override ABSL_LOCKS_EXCLUDED(mutex_);
  // Device memory costs nothing to touch.
  void Committed(std::shared_ptr<Update> update) override {}
  uint64_t PreparedBytes(const std::string& model) const override { return 0; }
  absl::StatusOr<std::shared_ptr<const ReadableVersion>> Open(const std::string& model, uint64_t version) const override
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<SharedMemory> Share(const std::string& model, uint64_t version) const override
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::string Path(const std::string& model, uint64_t version) const override { return ""; }
  std::string Folder(const std::string& model, uint64_t version) const override { return ""; }
  void Stop() override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Held;

  // What MakeRoom would come to.
  struct Room {
    uint64_t needed = 0;
    uint64_t free = 0;
    // What the versions hold that may go.
    uint64_t removable = 0;
    bool enough = false;
    // Taken out, if that is enough.
    std::vector<std::shared_ptr<Held>> taken = {};
  };

  // Null if there is none.
  std::shared_ptr<Held> Find(const std::string& model, uint64_t version) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether there is memory that is to go, and is not free yet.
  bool AnyLeaving() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits, a short time, until there is none.
  void AwaitLeaving() ABSL_LOCKS_EXCLUDED(mutex_);
  // Frees the memory in the background, once nobody else uses it: so the last who does, perhaps the thread on which a
  // device's copies complete, never waits for that.
  void Leaves(std::shared_ptr<Target> target) ABSL_LOCKS_EXCLUDED(mutex_);
  // What the thread does.
  void FreeWhatLeaves() ABSL_LOCKS_EXCLUDED(mutex_);
  // One that only we still have; null if there is none. It counts as leaving until it is free.
  std::shared_ptr<Target> TakeUnused() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the first of these versions that nobody reads out of their places, if they make up for what is missing.
  absl::StatusOr<Room> TakeForRoom(const ArenaRequest& request, const std::vector<uint64_t>& removable)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Forgets the version, and returns what was known of it.
  std::shared_ptr<Held> Take(const std::string& model, uint64_t version) ABSL_LOCKS_EXCLUDED(mutex_);

  Device& device_;
  // Guards the map alone: memory is allocated, read and freed without it.
  mutable absl::Mutex mutex_;
  std::map<std::pair<std::string, uint64_t>, std::shared_ptr<Held>> held_ ABSL_GUARDED_BY(mutex_);
  // Memory of versions that were removed and of updates that were aborted: readers and copies may still hold it.
  std::vector<std::shared_ptr<Target>> leaving_ ABSL_GUARDED_BY(mutex_);
  // Those, and what is being freed.
  size_t leaving_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // Signalled as it falls.
  MonotonicCondVar freed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Last, so that it starts when the rest is there.
  std::thread thread_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_DEVICE_VERSIONS_H_
