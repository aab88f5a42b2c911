// What a server that was given a sequence of calls must hold, and whether it does.
//
// Each update is sent as one byte, over and over, that no other update of the sequence has. So whatever of a chunk was
// mutated, a committed version consists of its own update's byte and nothing else: a byte that never landed is 0, and
// one of another update differs.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_VERSION_LEDGER_H_
#define WEIGHTSTREAM_TESTS_FUZZ_VERSION_LEDGER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "tensor/mapped_file.h"
#include "tests/fuzz/fuzzed_server.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

struct BegunUpdateRecord {
  std::string id;
  v1::BeginUpdateRequest request;
  // What every byte of its data is; never 0.
  char fill = 0;
};

// Not thread-safe.
class VersionLedger {
 public:
  // Notes an update that was begun or resumed, and checks the answer.
  void NoteBegun(const v1::BeginUpdateRequest& request, const v1::BeginUpdateResponse& response);
  // Notes what an answered CommitUpdate or RollbackModel made current. The version must be right in every byte.
  void NoteCommitted(FuzzedServer& server, const std::string& update_id, const v1::CommitUpdateResponse& response);
  void NoteRolledBack(const std::string& model, const v1::RollbackModelResponse& response);

  // Every update that was ever begun, the oldest first.
  const std::vector<BegunUpdateRecord>& updates() const { return updates_; }

  // The server holds what it promised, serves it, and every file that was ever committed is as it was, gone or not.
  void CheckServer(FuzzedServer& server) const;
  // A new version of the model, higher than all before, can be pushed and committed now.
  void CheckUpdatable(FuzzedServer& server, const std::string& model);
  // Of every model that the server knows, and of one that it does not.
  void CheckAllUpdatable(FuzzedServer& server);

 private:
  struct Committed {
    size_t update = 0;
    // As it was right after the commit, and as it is now, whatever became of its name.
    std::string bytes;
    std::unique_ptr<MappedFile> file;
  };
  using ModelVersion = std::pair<std::string, uint64_t>;

  const BegunUpdateRecord& UpdateOf(const std::string& id) const;
  void CheckModel(FuzzedServer& server, const v1::Model& model) const;
  void CheckPulled(FuzzedServer& server, const std::string& model, uint64_t version) const;

  std::vector<BegunUpdateRecord> updates_;
  std::map<ModelVersion, Committed> committed_;
  std::map<std::string, uint64_t> current_;
};

// Every byte of an update, chunk by chunk, on one stream.
absl::Status PushWhole(FuzzedServer& server, const BegunUpdateRecord& update, uint64_t chunk_bytes);

// Bytes [offset, offset + bytes) of the tensor, as that update's sender has them. Nothing in it need be legal.
v1::WeightChunk FilledChunk(const BegunUpdateRecord& update, const v1::TensorSpec& tensor, uint64_t offset,
                            uint64_t bytes);

// Of a legal tensor.
uint64_t BytesOf(const v1::TensorSpec& tensor);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_FUZZ_VERSION_LEDGER_H_
