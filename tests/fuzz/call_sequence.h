// A fuzzer's input as a sequence of calls on a server: README.md lists the steps and their arguments.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_CALL_SEQUENCE_H_
#define WEIGHTSTREAM_TESTS_FUZZ_CALL_SEQUENCE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/optional.h"
#include "tests/fuzz/call_input.h"
#include "tests/fuzz/fuzzed_server.h"
#include "tests/fuzz/version_ledger.h"

namespace weightstream {

// What a step's first byte chooses, modulo kSteps. The corpus has these numbers in it: add at the end.
enum class CallStep : uint8_t {
  kBegin,
  kPushWhole,
  kPush,
  kCommit,
  kAbort,
  kPull,
  kManifest,
  kDigest,
  kState,
  kWatch,
  kRollback,
  kRaw,
  kOpenStream,
  kWriteStream,
  kCloseStream,
  kRestart,
  kCaller,
  kExport,
  kRegister,
};
inline constexpr size_t kCallSteps = static_cast<size_t>(CallStep::kRegister) + 1;

// What is done to one chunk, modulo kChunkFaults. Numbers as above.
enum class ChunkFault : uint8_t {
  kNone,
  kWrongChecksum,
  kNoChecksum,
  kOtherDType,
  kOtherShape,
  kOtherName,
  kFollowedBy,
  kOtherUpdate,
  kEditedBytes,
  kTruncated,
};
inline constexpr size_t kChunkFaults = static_cast<size_t>(ChunkFault::kTruncated) + 1;

// Not thread-safe.
class CallSequence {
 public:
  // All outlive it.
  CallSequence(FuzzedServer& server, VersionLedger& ledger, CallInput& input)
      : server_(server), ledger_(ledger), input_(input) {}

  // Until the input is used up, or has asked for more steps than are good for one input.
  void Run();

 private:
  // All chunks of a stream come from one sender: bytes of another's would be a lie that no server can see.
  struct OpenStreamState {
    std::unique_ptr<FuzzedPush> push;
    size_t update = 0;
  };

  void Begin();
  void PushWholeUpdate();
  void Push();
  void Commit();
  void Abort();
  void Pull();
  void GetManifest();
  void Digest();
  void State();
  void Watch();
  void Rollback();
  void Raw();
  void OpenStream();
  void WriteStream();
  void CloseStream();
  void Restart();
  // Who makes the calls from here on.
  void ChangeCaller();
  void Export();
  void Register();

  std::string ModelName();
  uint64_t VersionOf(const std::string& model);
  void AddTensors(v1::BeginUpdateRequest& request);
  // One that was begun before, or nothing: where a special byte asks for that, or there is none.
  absl::optional<size_t> ChooseUpdate();
  // The id of one, or any text.
  std::string UpdateId();
  // A message's bytes, of that update but for its faults.
  std::string Chunk(size_t update);
  // What the message describes is changed, before it is serialised.
  void AddFault(const BegunUpdateRecord& update, ChunkFault fault, v1::WeightChunk& chunk);
  void AddFollowing(const BegunUpdateRecord& update, v1::WeightChunk& chunk);

  FuzzedServer& server_;
  VersionLedger& ledger_;
  CallInput& input_;
  // Open from one step to a later one.
  std::array<OpenStreamState, 3> streams_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_FUZZ_CALL_SEQUENCE_H_
