// Chooses the version where the caller leaves it open.
#ifndef WEIGHTSTREAM_CLIENT_VERSION_CHOICE_H_
#define WEIGHTSTREAM_CLIENT_VERSION_CHOICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// `models` is what the servers say of the model; those that do not know it are left out, or default. The version of an
// update in flight of the same source, if no server is past it already: that update is then resumed. Else one more than
// the highest version that was committed or is in flight anywhere.
uint64_t ChooseVersion(const std::vector<v1::Model>& models, const std::string& source_id);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_VERSION_CHOICE_H_
