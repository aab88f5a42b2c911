#include "tests/fuzz/version_ledger.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "proto/convert.h"
#include "tensor/spec.h"
#include "tests/fuzz/fuzz_check.h"

namespace weightstream {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kHighestVersion = std::numeric_limits<uint64_t>::max();

std::string NameOf(const std::string& model, uint64_t version) { return absl::StrCat(model, "/", version); }

// name -> dtype and shape, as a message.
std::map<std::string, std::string> SpecsOf(const google::protobuf::RepeatedPtrField<v1::TensorSpec>& tensors) {
  std::map<std::string, std::string> specs;
  for (v1::TensorSpec tensor : tensors) {
    tensor.DiscardUnknownFields();
    specs[tensor.name()] = tensor.SerializeAsString();
  }
  return specs;
}

uint64_t TotalBytes(const v1::BeginUpdateRequest& request) {
  uint64_t total = 0;
  for (const v1::TensorSpec& tensor : request.tensors()) total += BytesOf(tensor);
  return total;
}

}  // namespace

uint64_t BytesOf(const v1::TensorSpec& tensor) { return TensorByteSize(FromProto(tensor).value()).value(); }

v1::WeightChunk FilledChunk(const BegunUpdateRecord& update, const v1::TensorSpec& tensor, uint64_t offset,
                            uint64_t bytes) {
  v1::WeightChunk chunk;
  chunk.set_name(tensor.name());
  *chunk.mutable_shape() = tensor.shape();
  chunk.set_dtype(tensor.dtype());
  chunk.set_offset(offset);
  chunk.set_update_id(update.id);
  chunk.set_data(std::string(bytes, update.fill));
  chunk.set_crc32c(ExtendCrc32c(0, chunk.data()));
  return chunk;
}

absl::Status PushWhole(FuzzedServer& server, const BegunUpdateRecord& update, uint64_t chunk_bytes) {
  FuzzedPush push(server);
  for (const v1::TensorSpec& tensor : update.request.tensors()) {
    const uint64_t bytes = BytesOf(tensor);
    for (uint64_t at = 0; at < bytes; at += chunk_bytes) {
      const v1::WeightChunk chunk = FilledChunk(update, tensor, at, std::min(chunk_bytes, bytes - at));
      if (!push.Write(chunk.SerializeAsString())) return push.Finish();
    }
  }
  return push.Finish();
}

const BegunUpdateRecord& VersionLedger::UpdateOf(const std::string& id) const {
  const auto is_it = [&id](const BegunUpdateRecord& update) { return update.id == id; };
  const auto found = std::find_if(updates_.begin(), updates_.end(), is_it);
  Require(found != updates_.end(), "only an update that was begun is committed", id);
  return *found;
}

void VersionLedger::NoteBegun(const v1::BeginUpdateRequest& request, const v1::BeginUpdateResponse& response) {
  const uint64_t total = TotalBytes(request);
  Require(response.total_bytes() == total, "the sum of the manifest is right");
  Require(response.missing_bytes() <= total, "no more is missing than there is");
  Require(response.bucket_limit_bytes() > 0 && response.bucket_limit_bytes() <= kFuzzBucketBytes,
          "the bucket limit is the smaller of both");
  if (response.resumed()) {
    const BegunUpdateRecord& known = UpdateOf(response.update_id());
    Require(known.request.model() == request.model() && known.request.version() == request.version() &&
                known.request.source_id() == request.source_id() &&
                SpecsOf(known.request.tensors()) == SpecsOf(request.tensors()),
            "only the same sender's same update is resumed");
    return;
  }
  Require(response.missing_bytes() == total, "everything of a new update is missing");
  // More than 255 updates would need more than one byte each; an input does not begin so many.
  const char fill = static_cast<char>(1 + updates_.size() % 255);
  updates_.push_back({response.update_id(), request, fill});
}

void VersionLedger::NoteCommitted(FuzzedServer& server, const std::string& update_id,
                                  const v1::CommitUpdateResponse& response) {
  const AsAdmin admin(server);
  const BegunUpdateRecord& update = UpdateOf(update_id);
  const std::string& model = update.request.model();
  Require(response.version() == update.request.version(), "an update commits its own version");
  Require(response.total_bytes() == TotalBytes(update.request), "a commit tells the right sum");
  Committed& committed = committed_[{model, response.version()}];
  // Answered once more.
  if (committed.file != nullptr) return;
  committed.update = static_cast<size_t>(&update - updates_.data());
  current_[model] = response.version();
  absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(response.path());
  Require(file.ok(), "a commit tells the version's file", file.status().ToString());
  committed.file = *std::move(file);
  committed.bytes = std::string(committed.file->bytes());
  CheckPulled(server, model, response.version());
}

void VersionLedger::NoteRolledBack(const std::string& model, const v1::RollbackModelResponse& response) {
  Require(response.previous_version() == current_[model], "a rollback tells what was current before", model);
  current_[model] = response.model().current_version();
}

void VersionLedger::CheckPulled(FuzzedServer& server, const std::string& model, uint64_t version) const {
  const auto found = committed_.find({model, version});
  Require(found != committed_.end(), "only what was committed is held", NameOf(model, version));
  const BegunUpdateRecord& update = updates_[found->second.update];
  v1::PullRequest request;
  request.set_model(model);
  request.set_version(version);
  const auto context = server.NewContext();
  const auto reader = server.stub().Pull(context.get(), request);
  std::map<std::string, uint64_t> pulled;
  google::protobuf::RepeatedPtrField<v1::TensorSpec> specs;
  for (v1::WeightChunk chunk; reader->Read(&chunk);) {
    const auto [tensor, is_new] = pulled.emplace(chunk.name(), 0);
    if (is_new) {
      v1::TensorSpec& spec = *specs.Add();
      spec.set_name(chunk.name());
      spec.set_dtype(chunk.dtype());
      *spec.mutable_shape() = chunk.shape();
    }
    Require(chunk.offset() == tensor->second, "a tensor comes in order", chunk.name());
    Require(chunk.crc32c() == ExtendCrc32c(0, chunk.data()), "a checksum is right", chunk.name());
    Require(chunk.data().find_first_not_of(update.fill) == std::string::npos,
            "a committed version has its own sender's bytes, and all of them", chunk.name());
    tensor->second += chunk.data().size();
  }
  const absl::Status status = server.Checked(reader->Finish(), "Pull");
  Require(status.ok(), "a version that is held can be pulled", status.ToString());
  Require(SpecsOf(specs) == SpecsOf(update.request.tensors()), "a version has its manifest's tensors");
  for (const v1::TensorSpec& tensor : update.request.tensors()) {
    Require(pulled[tensor.name()] == BytesOf(tensor), "every tensor comes whole", tensor.name());
  }
}

void VersionLedger::CheckModel(FuzzedServer& server, const v1::Model& model) const {
  const auto current = current_.find(model.name());
  Require(model.current_version() == (current == current_.end() ? 0 : current->second),
          "the version is current that was made so last", model.name());
  Require(static_cast<uint64_t>(model.versions_size()) <= kFuzzKeepVersions, "old versions go", model.name());
  bool has_current = model.current_version() == 0;
  for (const v1::VersionInfo& version : model.versions()) {
    has_current = has_current || version.version() == model.current_version();
    Require(version.version() <= model.highest_version(), "no version is above the highest", model.name());
    CheckPulled(server, model.name(), version.version());
  }
  Require(has_current, "the current version is held", model.name());
  if (model.current_version() == 0) return;
  std::error_code error;
  const fs::path link = fs::read_symlink(fs::path(server.data_dir()) / model.name() / "current", error);
  Require(!error && link == absl::StrCat(model.current_version()), "`current` leads readers to the current version",
          link.string());
}

void VersionLedger::CheckServer(FuzzedServer& server) const {
  const AsAdmin admin(server);
  v1::ListModelsResponse models;
  const absl::Status status = server.Checked(
      server.stub().ListModels(server.NewContext().get(), v1::ListModelsRequest(), &models), "ListModels");
  Require(status.ok(), "the server answers", status.ToString());
  std::map<std::string, uint64_t> expected = current_;
  for (const v1::Model& model : models.models()) {
    CheckModel(server, model);
    expected.erase(model.name());
  }
  Require(expected.empty(), "no model with a version is forgotten");
  for (const auto& [version, committed] : committed_) {
    Require(committed.file->bytes() == committed.bytes, "a committed version's bytes never change",
            NameOf(version.first, version.second));
  }
}

void VersionLedger::CheckUpdatable(FuzzedServer& server, const std::string& model) {
  const AsAdmin admin(server);
  v1::GetModelRequest question;
  question.set_model(model);
  v1::Model state;
  // NOT_FOUND leaves it empty: any version will do.
  static_cast<void>(server.Checked(server.stub().GetModel(server.NewContext().get(), question, &state), "GetModel"));
  // Nothing is above it: a sender that uses up all numbers has chosen so.
  if (state.highest_version() == kHighestVersion) return;
  uint64_t highest = state.highest_version();
  for (const v1::UpdateInfo& update : state.updates()) {
    if (update.state() == v1::UPDATE_STATE_RECEIVING) highest = std::max(highest, update.version());
  }
  v1::BeginUpdateRequest request;
  request.set_model(model);
  // Of an update in flight to the highest number of all, another sender takes over that number.
  request.set_version(highest == kHighestVersion ? highest : highest + 1);
  request.set_source_id("a sender that keeps all rules");
  v1::TensorSpec& tensor = *request.add_tensors();
  tensor.set_name("weight");
  tensor.set_dtype("BF16");
  tensor.add_shape(3000);
  v1::BeginUpdateResponse begun;
  absl::Status status =
      server.Checked(server.stub().BeginUpdate(server.NewContext().get(), request, &begun), "BeginUpdate");
  Require(status.ok() && !begun.resumed(), "every model can be updated", status.ToString());
  NoteBegun(request, begun);
  status = PushWhole(server, updates_.back(), begun.bucket_limit_bytes());
  Require(status.ok(), "every model takes chunks", status.ToString());
  v1::CommitUpdateRequest commit;
  commit.set_model(model);
  commit.set_update_id(begun.update_id());
  v1::CommitUpdateResponse committed;
  status = server.Checked(server.stub().CommitUpdate(server.NewContext().get(), commit, &committed), "CommitUpdate");
  Require(status.ok(), "every model takes a commit", status.ToString());
  NoteCommitted(server, begun.update_id(), committed);
}

void VersionLedger::CheckAllUpdatable(FuzzedServer& server) {
  const AsAdmin admin(server);
  v1::ListModelsResponse models;
  const absl::Status status = server.Checked(
      server.stub().ListModels(server.NewContext().get(), v1::ListModelsRequest(), &models), "ListModels");
  Require(status.ok(), "the server answers", status.ToString());
  for (const v1::Model& model : models.models()) CheckUpdatable(server, model.name());
  CheckUpdatable(server, "unheard-of");
}

}  // namespace weightstream
