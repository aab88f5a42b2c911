#include "server/test_versions.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/checksum.h"
#include "server/test_update.h"
#include "tensor/test_files.h"

namespace weightstream {

SafetensorsLayout OneTensorLayout(uint64_t bytes) {
  return LayOutSafetensors({ByteTensor("w", bytes)}, {{"format", "pt"}}).value();
}

uint32_t OneTensorCrc32c() { return ExtendCrc32c(0, EncodeSafetensorsHeader(OneTensorLayout(1000))); }

std::string VersionFile(uint64_t seed, uint64_t bytes) {
  return absl::StrCat(EncodeSafetensorsHeader(OneTensorLayout(bytes)), PatternBytes(seed, bytes));
}

void WriteVersion(const std::string& folder, uint64_t seed) {
  std::filesystem::create_directories(folder);
  WriteTestFile(absl::StrCat(folder, "/model.safetensors"), VersionFile(seed));
}

absl::StatusOr<VersionRecord> PublishVersion(ModelStore& store, const std::string& model, uint64_t version) {
  const std::string update = absl::StrCat("u", version);
  absl::StatusOr<NewFile> incoming =
      store.CreateIncoming(model, update, EncodeSafetensorsHeader(OneTensorLayout(1000)));
  if (!incoming.ok()) return incoming.status();
  WriteTestFile(incoming->path, VersionFile(version));
  return store.Publish(model, update, version, OneTensorLayout(1000), OneTensorCrc32c());
}

}  // namespace weightstream
