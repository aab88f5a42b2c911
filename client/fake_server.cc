#include "client/fake_server.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "client/fake_service.h"
#include "kernels/checksum.h"
#include "proto/convert.h"
#include "tensor/safetensors_layout.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

bool SameUpdate(const v1::BeginUpdateRequest& a, const v1::BeginUpdateRequest& b) {
  if (a.version() != b.version() || a.source_id() != b.source_id() || a.tensors_size() != b.tensors_size())
    return false;
  for (int i = 0; i < a.tensors_size(); ++i) {
    if (a.tensors(i).SerializeAsString() != b.tensors(i).SerializeAsString()) return false;
  }
  return true;
}

}  // namespace

FakeServer::FakeServer(Hooks hooks, uint64_t bucket_limit_bytes)
    : hooks_(std::move(hooks)), bucket_limit_bytes_(bucket_limit_bytes), service_(std::make_unique<Service>(*this)) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
  // Not in the test's own folder, whose path may be too long for a socket's.
  char folder[] = "/tmp/fake-server-XXXXXX";
  if (mkdtemp(folder) == nullptr) std::abort();
  folder_ = folder;
  unix_address_ = absl::StrCat("unix:", folder_, "/socket");
  builder.AddListeningPort(unix_address_, grpc::InsecureServerCredentials());
  builder.SetMaxReceiveMessageSize(static_cast<int>(bucket_limit_bytes_) + (64 << 10));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 50);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // As the server does. The probe would open windows that swallow a whole test model while a hook holds its first
  // chunk.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  address_ = absl::StrCat("127.0.0.1:", port_);
}

FakeServer::~FakeServer() {
  server_->Shutdown(std::chrono::system_clock::now());
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

uint64_t FakeServer::Update::missing_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, ranges] : missing) bytes += ranges.bytes();
  return bytes;
}

absl::Status FakeServer::Begin(const v1::BeginUpdateRequest& request, v1::BeginUpdateResponse& response) {
  absl::MutexLock lock(&mutex_);
  ++begins_;
  ModelState& model = models_[request.model()];
  if (model.versions.contains(request.version())) return absl::AlreadyExistsError("the version is committed already");
  if (!model.versions.empty() && model.versions.rbegin()->first > request.version()) {
    return absl::FailedPreconditionError("the version is not newer");
  }
  const bool resumed = model.update.has_value() && SameUpdate(model.update->request, request);
  if (!resumed) {
    Update update;
    update.id = absl::StrCat("update-", ++updates_made_);
    update.request = request;
    update.version.manifest.set_model(request.model());
    update.version.manifest.set_version(request.version());
    *update.version.manifest.mutable_metadata() = request.metadata();
    uint64_t total = 0;
    for (const v1::TensorSpec& spec : request.tensors()) {
      const uint64_t bytes = TensorByteSize(FromProto(spec).value()).value();
      *update.version.manifest.add_tensors() = spec;
      update.version.bytes[spec.name()] = std::string(bytes, '\0');
      if (bytes > 0) update.missing[spec.name()].Add({0, bytes});
      total += bytes;
    }
    update.version.manifest.set_total_bytes(total);
    model.update = std::move(update);
  }
  const Update& update = *model.update;
  response.set_update_id(update.id);
  response.set_resumed(resumed);
  response.set_bucket_limit_bytes(request.bucket_limit_bytes() == 0
                                      ? bucket_limit_bytes_
                                      : std::min(bucket_limit_bytes_, request.bucket_limit_bytes()));
  response.set_missing_bytes(update.missing_bytes());
  response.set_everything_missing(request.takes_everything_missing() &&
                                  update.missing_bytes() == update.version.manifest.total_bytes());
  for (const auto& [name, ranges] : update.missing) {
    if (!ranges.empty() && !response.everything_missing()) *response.add_missing() = ToProto(name, ranges.ranges());
  }
  response.set_total_bytes(update.version.manifest.total_bytes());
  return absl::OkStatus();
}

FakeServer::Update* FakeServer::FindUpdate(const std::string& id) {
  for (auto& [name, model] : models_) {
    if (model.update.has_value() && model.update->id == id) return &*model.update;
  }
  return nullptr;
}

absl::Status FakeServer::Land(const std::string& update_id, const v1::WeightChunk& chunk) {
  if (!chunk.has_crc32c() || ExtendCrc32c(0, chunk.data()) != chunk.crc32c()) {
    return absl::DataLossError("the data do not match their checksum");
  }
  absl::MutexLock lock(&mutex_);
  Update* update = FindUpdate(update_id);
  if (update == nullptr) return absl::NotFoundError("unknown update");
  if (chunk.data().size() > bucket_limit_bytes_) return absl::ResourceExhaustedError("over the bucket limit");
  absl::string_view data = chunk.data();
  uint64_t offset = chunk.offset();
  std::vector<std::string> names = {chunk.name()};
  names.insert(names.end(), chunk.followed_by().begin(), chunk.followed_by().end());
  for (const std::string& name : names) {
    const auto bytes = update->version.bytes.find(name);
    if (bytes == update->version.bytes.end()) return absl::InvalidArgumentError("unknown tensor");
    // The last one has all that is left; those before it reach their ends.
    const uint64_t size = &name == &names.back() ? data.size() : bytes->second.size() - offset;
    if (size > data.size() || offset + size > bytes->second.size()) {
      return absl::InvalidArgumentError("past the tensor's end");
    }
    bytes->second.replace(offset, size, data.data(), size);
    const ByteRange range{offset, offset + size};
    update->missing[name].Remove(range);
    landed_.push_back({name, range});
    data.remove_prefix(size);
    offset = 0;
  }
  return absl::OkStatus();
}

absl::Status FakeServer::Commit(const v1::CommitUpdateRequest& request, v1::CommitUpdateResponse& response) {
  absl::MutexLock lock(&mutex_);
  Update* update = FindUpdate(request.update_id());
  if (update == nullptr) return absl::NotFoundError("unknown update");
  if (update->missing_bytes() > 0) {
    return absl::FailedPreconditionError(absl::StrCat(update->missing_bytes(), " bytes are missing"));
  }
  ModelState& model = models_[request.model()];
  const uint64_t version = update->request.version();
  if (!update->committed) {
    ++commits_;
    model.versions[version] = update->version;
    model.current = version;
    update->committed = true;
  }
  response.set_version(version);
  response.set_total_bytes(update->version.manifest.total_bytes());
  response.set_path(absl::StrCat("/fake/", request.model(), "/", version));
  return absl::OkStatus();
}

absl::Status FakeServer::Abort(const v1::AbortUpdateRequest& request) {
  absl::MutexLock lock(&mutex_);
  if (FindUpdate(request.update_id()) == nullptr) return absl::NotFoundError("unknown update");
  aborts_.push_back(request.reason());
  models_[request.model()].update.reset();
  return absl::OkStatus();
}

absl::StatusOr<FakeServer::Version> FakeServer::Find(const std::string& model, uint64_t number) const {
  absl::MutexLock lock(&mutex_);
  const auto state = models_.find(model);
  if (state == models_.end() || state->second.current == 0) return absl::NotFoundError("unknown model");
  const auto version = state->second.versions.find(number == 0 ? state->second.current : number);
  if (version == state->second.versions.end()) return absl::NotFoundError("unknown version");
  return version->second;
}

uint64_t FakeServer::MissingBytes(const std::string& update_id) const {
  absl::MutexLock lock(&mutex_);
  for (const auto& [name, model] : models_) {
    if (model.update.has_value() && model.update->id == update_id) return model.update->missing_bytes();
  }
  return 0;
}

void FakeServer::ForgetUpdates() {
  absl::MutexLock lock(&mutex_);
  for (auto& [name, model] : models_) model.update.reset();
}

absl::optional<std::string> FakeServer::Tensor(const std::string& model, const std::string& tensor) const {
  const absl::StatusOr<Version> version = Find(model, 0);
  if (!version.ok()) return absl::nullopt;
  const auto bytes = version->bytes.find(tensor);
  if (bytes == version->bytes.end()) return absl::nullopt;
  return bytes->second;
}

void FakeServer::Damage(const std::string& model, const std::string& tensor, uint64_t offset) {
  absl::MutexLock lock(&mutex_);
  ModelState& state = models_[model];
  state.versions[state.current].bytes[tensor][offset] ^= 1;
}

v1::Model FakeServer::State(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  v1::Model state;
  state.set_name(name);
  const auto found = models_.find(name);
  if (found == models_.end()) return state;
  const ModelState& model = found->second;
  state.set_current_version(model.current);
  for (const auto& [number, version] : model.versions) {
    v1::VersionInfo& info = *state.add_versions();
    info.set_version(number);
    info.set_path(absl::StrCat("/fake/", name, "/", number));
    state.set_highest_version(number);
  }
  if (model.update.has_value()) {
    v1::UpdateInfo& info = *state.add_updates();
    info.set_update_id(model.update->id);
    info.set_version(model.update->request.version());
    info.set_source_id(model.update->request.source_id());
    info.set_state(model.update->committed ? v1::UPDATE_STATE_COMMITTED : v1::UPDATE_STATE_RECEIVING);
  }
  return state;
}

uint64_t FakeServer::current_version(const std::string& model) const { return State(model).current_version(); }

std::vector<FakeServer::LandedChunk> FakeServer::landed() const {
  absl::MutexLock lock(&mutex_);
  return landed_;
}

uint64_t FakeServer::landed_bytes() const {
  uint64_t bytes = 0;
  for (const LandedChunk& chunk : landed()) bytes += chunk.range.size();
  return bytes;
}

int FakeServer::begins() const {
  absl::MutexLock lock(&mutex_);
  return begins_;
}

int FakeServer::empty_streams() const {
  absl::MutexLock lock(&mutex_);
  return empty_streams_;
}

int FakeServer::commits() const {
  absl::MutexLock lock(&mutex_);
  return commits_;
}

std::vector<std::string> FakeServer::aborts() const {
  absl::MutexLock lock(&mutex_);
  return aborts_;
}

std::vector<std::string> FakeServer::stream_peers() const {
  absl::MutexLock lock(&mutex_);
  return stream_peers_;
}

std::vector<v1::PullRequest> FakeServer::pulls() const {
  absl::MutexLock lock(&mutex_);
  return pulls_;
}

void FakeServer::WaitUntilCancelled(const grpc::ServerContext& context) {
  const absl::Notification never;
  // lint-allow(monotonic-waits): the pause of a poll in tests.
  while (!context.IsCancelled()) never.WaitForNotificationWithTimeout(absl::Milliseconds(5));
}

}  // namespace weightstream
