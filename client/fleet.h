// Whom to reach: from what people write to the servers themselves, one address each.
//
//   auto fleet = FindFleet({"dns:///weights.default.svc:7070"}, SystemNameLookup(absl::Seconds(25)));
//   options.security.tls_names = fleet->tls_names;
//   auto result = Push(**source, fleet->servers, options);
//
// An item is one of
//
//   HOST:PORT, [V6]:PORT, unix:PATH   one server, as it is; HOST is not looked up here
//   dns:///NAME:PORT                  a server at each address of NAME: what a headless service resolves to
//   @FILE                             the servers in a file: one of the forms above a line. Blank lines are skipped;
//   '#'
//                                     at the start of a line or behind a space begins a comment
//
// A name is looked up once, when the work begins: who joins later is not part of it.
#ifndef WEIGHTSTREAM_CLIENT_FLEET_H_
#define WEIGHTSTREAM_CLIENT_FLEET_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/name_lookup.h"

namespace weightstream {

struct Fleet {
  // HOST:PORT, [V6]:PORT or unix:PATH; each once, in the order of the items, those of one name as the lookup told them.
  std::vector<std::string> servers;
  // For Security::tls_names: by address, the name that it was found by. A certificate is for that, not for the address.
  std::map<std::string, std::string> tls_names;
};

// Whether an item has one of the forms above. INVALID_ARGUMENT quotes it. Opens and looks up nothing.
absl::Status ValidateFleetItem(absl::string_view item);

// Requires valid items. Errors name the item, a file's line with it, what is wrong and what to do: those of the lookup;
// FAILED_PRECONDITION for a file that cannot be read; INVALID_ARGUMENT for a line that is no address, for no server at
// all, and for more than 256. A file may be a pipe.
absl::StatusOr<Fleet> FindFleet(absl::Span<const std::string> items, const NameLookup& lookup);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_FLEET_H_
