#include "server/target_stream.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "proto/convert.h"
#include "server/lease.h"
#include "server/local_peer.h"
#include "server/log.h"
#include "server/model_state.h"

namespace weightstream {
namespace {

SharedMemory ReadMemory(const v1::DeviceMemory& memory) {
  return {memory.handle(), memory.device_uuid(), memory.offset(), memory.bytes()};
}

absl::StatusOr<TargetRegistration> ReadRegistration(const v1::RegisterTargetsRequest& request,
                                                    const std::string& peer) {
  TargetRegistration registration;
  registration.owner = peer;
  registration.partial = request.partial();
  for (const v1::DeviceMemory& memory : request.memory()) registration.memory.push_back(ReadMemory(memory));
  for (const v1::TargetTensor& tensor : request.tensors()) {
    absl::StatusOr<TensorSpec> spec = FromProto(tensor.spec());
    if (!spec.ok()) return spec.status();
    TargetTensor target{*std::move(spec), absl::nullopt, tensor.memory(), tensor.offset()};
    if (tensor.has_slice()) {
      target.slice = TensorSlice{tensor.slice().dimension(), tensor.slice().begin(), tensor.slice().end()};
    }
    registration.tensors.push_back(std::move(target));
  }
  return registration;
}

// Tells what becomes of the targets, until the caller or the server ends it, or they are of no use any more.
absl::Status TellState(const CallEnvironment& environment, const LeaseCall& lease, OpenCalls::Call& call,
                       const Model& model, grpc::ServerWriterInterface<v1::TargetsState>* writer) {
  absl::optional<std::string> last;
  const auto tell = [&](const ModelSnapshot& snapshot) {
    const v1::TargetsState state = TargetsStateOf(snapshot);
    std::string now = state.SerializeAsString();
    if (last == now) return true;
    last = std::move(now);
    return call.Write(*writer, state);
  };
  return HoldLease(environment, lease, model,
                   {.tell = tell,
                    // What is under way may come to its end first.
                    .may_end = [&] { return model.update_in_flight() == nullptr; },
                    .at_shutdown = "and has let go of the targets"});
}

}  // namespace

absl::Status ServeRegister(const CallEnvironment& environment, const std::atomic<bool>& stopping,
                           grpc::ServerContext* context, const v1::RegisterTargetsRequest& request,
                           grpc::ServerWriterInterface<v1::TargetsState>* writer) {
  const std::string peer = context->peer();
  if (absl::Status local = CheckLocalPeer(peer, "RegisterTargets"); !local.ok()) return local;
  absl::StatusOr<std::unique_ptr<OpenCalls::Call>> call =
      environment.calls->Enter(context, "RegisterTargets", OpenCalls::Kind::kLasting);
  if (!call.ok()) return call.status();
  absl::StatusOr<TargetRegistration> registration = ReadRegistration(request, peer);
  if (!registration.ok()) return registration.status();
  absl::StatusOr<std::shared_ptr<const RegisteredTargets>> targets =
      RegisteredTargets::Open(*environment.device, *std::move(registration));
  if (!targets.ok()) return targets.status();
  absl::StatusOr<std::shared_ptr<Model>> model = environment.registry->FindOrAdd(request.model());
  if (!model.ok()) return model.status();
  const uint64_t bytes = (*targets)->bytes();
  const absl::StatusOr<TargetClaims::Id> claim = environment.claims->Claim(request.model(), *targets);
  if (!claim.ok()) return claim.status();
  if (absl::Status registered = (*model)->RegisterTargets(*std::move(targets)); !registered.ok()) {
    environment.claims->Release(*claim);
    return registered;
  }
  LogInfo("targets_registered",
          {{"peer", peer}, {"model", request.model()}, {"tensors", request.tensors_size()}, {"bytes", bytes}});
  const absl::Status ended =
      TellState(environment, {"RegisterTargets", context, call->get(), &stopping}, **call, **model, writer);
  const bool let_go = (*model)->UnregisterTargets(absl::StrCat(
      "the inference server ", peer, ", into whose memory it was written, ended its registration: ", ended.message()));
  // Else it is claimed for as long as a copy may come.
  if (let_go) environment.claims->Release(*claim);
  LogInfo("targets_unregistered", {{"peer", peer}, {"model", request.model()}, {"status", ended.ToString()}});
  return ended;
}

}  // namespace weightstream
