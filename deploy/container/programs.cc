// Both programs in one file, for the image and for hosts without our packages: what they share, gRPC above all, is
// there once. The name that it is called by says which one runs, as with busybox; the image has a link for the server.
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "client/command/command_main.h"
#include "server/server_main.h"

namespace {

bool NamesTheServer(absl::string_view called) {
  const size_t slash = called.rfind('/');
  if (slash != absl::string_view::npos) called.remove_prefix(slash + 1);
  return absl::StartsWith(called, "weightstream-server");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 0 && NamesTheServer(argv[0])) return weightstream::ServerMain(argc, argv);
  return weightstream::command::CommandMain(argc, argv);
}
