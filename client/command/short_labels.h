// Names in few columns that still tell servers, or models, apart. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_SHORT_LABELS_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_SHORT_LABELS_H_

#include <cstddef>
#include <string>
#include <vector>

namespace weightstream::command {

// What tells servers apart in few columns: "10.0.0.5" of "10.0.0.5:7070", the pod of a pod's DNS name; the names as
// they are where two servers would be called the same.
std::vector<std::string> ShortNames(const std::vector<std::string>& names);

// Each in at most so many columns. What is longer loses its middle, for both ends of a name tell it apart, but not the
// port of an address; and where names that differ would then look the same, what all of them begin with.
std::vector<std::string> CutNames(const std::vector<std::string>& names, size_t most);

// The fewest columns, of `least` or more, to which names can be cut and still differ wherever they did before.
size_t ColumnsToDiffer(const std::vector<std::string>& names, size_t least);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_SHORT_LABELS_H_
