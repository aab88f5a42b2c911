// What a server is called by in a sequence, and who may call it: the table of docs/security.md, written once more.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_CALLED_METHODS_H_
#define WEIGHTSTREAM_TESTS_FUZZ_CALLED_METHODS_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace weightstream {

// Who calls: each may do what those after it may. The corpus has these numbers in it: add at the end.
enum class Caller : uint8_t {
  kAdmin,
  kPusher,
  kReader,
  // With a token that the server does not know.
  kStranger,
  // Without one.
  kNobody,
};
inline constexpr size_t kCallers = static_cast<size_t>(Caller::kNobody) + 1;

struct CalledMethod {
  // As it stands on the wire.
  absl::string_view path;
  // The least that a caller must be.
  Caller least;
};

// Every method of the service (a test holds it against the .proto), one that is none, and the standard services. The
// corpus has indexes of it: add at the end.
inline constexpr CalledMethod kCalledMethods[] = {
    {"/weightstream.v1.WeightStream/BeginUpdate", Caller::kPusher},
    {"/weightstream.v1.WeightStream/Push", Caller::kPusher},
    {"/weightstream.v1.WeightStream/CommitUpdate", Caller::kPusher},
    {"/weightstream.v1.WeightStream/AbortUpdate", Caller::kPusher},
    {"/weightstream.v1.WeightStream/Pull", Caller::kReader},
    {"/weightstream.v1.WeightStream/GetManifest", Caller::kReader},
    {"/weightstream.v1.WeightStream/DigestModel", Caller::kReader},
    {"/weightstream.v1.WeightStream/GetModel", Caller::kReader},
    {"/weightstream.v1.WeightStream/ListModels", Caller::kReader},
    {"/weightstream.v1.WeightStream/WatchModel", Caller::kReader},
    {"/weightstream.v1.WeightStream/RollbackModel", Caller::kAdmin},
    {"/weightstream.v1.WeightStream/NoSuchMethod", Caller::kNobody},
    {"/grpc.health.v1.Health/Check", Caller::kNobody},
    {"/grpc.health.v1.Health/Watch", Caller::kNobody},
    {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Caller::kNobody},
    {"/weightstream.v1.WeightStream/ExportTarget", Caller::kPusher},
    {"/weightstream.v1.WeightStream/RegisterTargets", Caller::kPusher},
};

// By its path, or by its last part alone ("BeginUpdate") for one of the service.
bool MayCall(Caller caller, absl::string_view method);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_TESTS_FUZZ_CALLED_METHODS_H_
