// Committed versions as files, written by hand: what a store must be able to read, or to make.
#ifndef WEIGHTSTREAM_SERVER_TEST_VERSIONS_H_
#define WEIGHTSTREAM_SERVER_TEST_VERSIONS_H_

#include <cstdint>
#include <string>

#include "server/model_store.h"
#include "tensor/safetensors_layout.h"

namespace weightstream {

// One tensor "w" of this many bytes.
SafetensorsLayout OneTensorLayout(uint64_t bytes);
// Of the header of OneTensorLayout(1000).
uint32_t OneTensorCrc32c();

// A whole file: OneTensorLayout and PatternBytes(seed).
std::string VersionFile(uint64_t seed, uint64_t bytes = 1000);

// Writes VersionFile(seed) to FOLDER/model.safetensors, the folder made where missing.
void WriteVersion(const std::string& folder, uint64_t seed);

// Begins, fills and publishes a version with VersionFile(version), as Model does.
absl::StatusOr<VersionRecord> PublishVersion(ModelStore& store, const std::string& model, uint64_t version);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TEST_VERSIONS_H_
