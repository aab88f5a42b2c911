// BeginUpdate's request from a source, and its reply checked against the source.
#ifndef WEIGHTSTREAM_CLIENT_BEGIN_REPLY_H_
#define WEIGHTSTREAM_CLIENT_BEGIN_REPLY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/manifest_index.h"
#include "client/planner.h"
#include "client/weight_source.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

// The request that begins, or resumes, `source` as a version of `model`. `index` is of the source's tensors.
v1::BeginUpdateRequest MakeBeginRequest(const WeightSource& source, const ManifestIndex& index,
                                        const std::string& model, uint64_t version, uint64_t bucket_limit_bytes);

// What the server misses, by ascending tensor. INTERNAL, naming the tensor, where the reply contradicts the manifest: a
// planner that trusted it would read outside the source.
absl::StatusOr<std::vector<MissingTensor>> CheckBeginReply(const v1::BeginUpdateResponse& reply,
                                                           const ManifestIndex& index);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_BEGIN_REPLY_H_
