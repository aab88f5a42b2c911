// Versions as files below the data directory: see model_store.h for the files, arena_supply.h for their memory.
#ifndef WEIGHTSTREAM_SERVER_FILE_VERSIONS_H_
#define WEIGHTSTREAM_SERVER_FILE_VERSIONS_H_

#include <memory>
#include <string>
#include <vector>

#include "server/arena_supply.h"
#include "server/version_medium.h"

namespace weightstream {

class FileVersions final : public VersionMedium {
 public:
  // `store` and `device`, which keeps files, outlive this.
  FileVersions(ModelStore& store, Device& device, ArenaSupply::Options options);

  std::vector<StoredModel> Recovered() const override { return store_.recovered(); }
  absl::Status CheckPlace(const std::string& model, uint64_t version) const override;
  absl::StatusOr<std::shared_ptr<Target>> Provide(const ArenaRequest& request) override;
  uint64_t LackingBytes(const ArenaRequest& request) const override {
    return arenas_.LackingBytes(request.layout->file_bytes());
  }
  absl::StatusOr<std::vector<uint64_t>> MakeRoom(const ArenaRequest& request,
                                                 const std::vector<uint64_t>& removable) override;
  // Never: whoever has a file open or mapped keeps it as it is.
  bool may_overwrite() const override { return false; }
  absl::StatusOr<std::shared_ptr<Target>> ProvideInPlace(const ArenaRequest& request, uint64_t over) override;
  void Overwritten(const std::string& model, uint64_t version) override {}
  absl::Status Discard(const Update& update) override;
  absl::StatusOr<VersionRecord> Publish(const Update& update) override;
  absl::Status SetCurrent(const std::string& model, uint64_t version) override;
  absl::Status Remove(const std::string& model, uint64_t version) override;
  void Committed(std::shared_ptr<Update> update) override;
  uint64_t PreparedBytes(const std::string& model) const override { return arenas_.SpareBytes(model); }
  absl::StatusOr<std::shared_ptr<const ReadableVersion>> Open(const std::string& model,
                                                              uint64_t version) const override;
  absl::StatusOr<SharedMemory> Share(const std::string& model, uint64_t version) const override;
  std::string Path(const std::string& model, uint64_t version) const override;
  std::string Folder(const std::string& model, uint64_t version) const override;
  void Stop() override { arenas_.Stop(); }

 private:
  ModelStore& store_;
  ArenaSupply arenas_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_FILE_VERSIONS_H_
