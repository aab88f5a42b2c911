// What the tests of the manifest's codec share: requests compared with those of the generated code.
#ifndef WEIGHTSTREAM_PROTO_BEGIN_CODEC_TESTING_H_
#define WEIGHTSTREAM_PROTO_BEGIN_CODEC_TESTING_H_

#include <string>

#include "absl/strings/string_view.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// What a request says, without the fields that it has beyond ours and with its map in one order: equal for requests
// that say the same. Written by generated code alone, since reflection over a map cannot be used under ThreadSanitizer,
// for which a MapField is compiled to another layout than the system's protobuf has.
std::string CanonicalBytes(v1::BeginUpdateRequest request);

// Whether five bytes could be the tag of a field number above 2^29-1, which generated code takes for another and we
// refuse (wire_cursor.h).
bool MayHoldWideTag(absl::string_view message);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_BEGIN_CODEC_TESTING_H_
