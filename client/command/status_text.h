// The state of models as tables for a person, below 80 columns wide. What is copied elsewhere stands whole, however
// long it is: a path, an address, a word of a message. A model's name of more columns is folded. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_STATUS_TEXT_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_STATUS_TEXT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream::command {

// One row a model, and below it a line for its update in flight:
//
//   MODEL  CURRENT  HELD      BYTES    AGE
//   llama       12  11,12  14.0 GiB  3m05s
//     13: receiving 42.1 %, 5.8/14.0 GiB, 1.23 GB/s, 6.6s left
//
// Rate and time left are those of the whole update so far: nothing else can be told from one look.
// Without a model, and where the device has failed, the server's device is named.
std::string ModelsTable(const v1::ListModelsResponse& answer, absl::Time now);

// What one of several servers answered.
struct ServerModels {
  std::string server;
  absl::StatusOr<v1::ListModelsResponse> models;
};

// The same for several servers, one table with the server in front: what they hold is there to be compared. A server
// that failed has a line with the reason.
std::string FleetTable(const std::vector<ServerModels>& servers, absl::Time now);

// Everything of one model: versions and where they lie, the update in flight, the updates that ended and why.
//
//   versions held (* is current):
//   VERSION  TENSORS     BYTES  COMMITTED
//   12 *         291  14.0 GiB  2026-11-24 07:00:33 UTC
//     /dev/shm/weightstream/llama/12/model.safetensors
std::string ModelDetail(const v1::Model& model, absl::Time now);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_STATUS_TEXT_H_
