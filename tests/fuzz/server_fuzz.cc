// The whole server: a sequence of calls with mutated fields, on a server and a folder of this input's own.
#include "tests/fuzz/call_input.h"
#include "tests/fuzz/call_sequence.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/fuzzed_server.h"
#include "tests/fuzz/version_ledger.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weightstream;
  if (size == 0) return 0;
  CallInput input(absl::string_view(reinterpret_cast<const char*>(data), size));
  FuzzedServer server;
  VersionLedger ledger;
  CallSequence(server, ledger, input).Run();
  ledger.CheckServer(server);
  ledger.CheckAllUpdatable(server);
  // What was committed is durable, and what was not is gone without a trace.
  server.Restart();
  ledger.CheckServer(server);
  return 0;
}
