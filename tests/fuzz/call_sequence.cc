#include "tests/fuzz/call_sequence.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/checksum.h"
#include "tensor/dtype.h"
#include "tests/fuzz/called_methods.h"
#include "tests/fuzz/fuzz_check.h"

namespace weightstream {
namespace {

// Long enough for two updates of two models with faults in between, short enough for many inputs a second.
constexpr int kMaxSteps = 32;
// Far above the bucket limit, which is thereby in reach.
constexpr uint64_t kMaxChunkBytes = 16 << 10;
constexpr uint64_t kMostChunksOfAnUpdate = 16;

const char* const kModels[] = {"a", "b", "c.d-e_f"};

struct PlainTensor {
  const char* name;
  const char* dtype;
  std::vector<uint64_t> shape;
};

// The last is empty: a model without tensors.
const std::vector<PlainTensor> kManifests[] = {
    {{"w", "F32", {4}}},
    {{"embed/../weight", "BF16", {3, 5}},
     {"packed", "F4", {10}},
     {"scalar", "F64", {}},
     {"nothing", "F32", {3, 0}},
     {"\xc3\xbcml\xc3\xa4ut", "U8", {1000}}},
    {{"large", "U8", {10000}}, {"small", "I16", {1}}},
    {},
};

void AddTensor(const PlainTensor& tensor, v1::BeginUpdateRequest& request) {
  v1::TensorSpec& spec = *request.add_tensors();
  spec.set_name(tensor.name);
  spec.set_dtype(tensor.dtype);
  spec.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
}

}  // namespace

void CallSequence::Run() {
  using StepFunction = void (CallSequence::*)();
  // In the order of CallStep.
  static constexpr StepFunction kFunctions[] = {
      &CallSequence::Begin,       &CallSequence::PushWholeUpdate, &CallSequence::Push,
      &CallSequence::Commit,      &CallSequence::Abort,           &CallSequence::Pull,
      &CallSequence::GetManifest, &CallSequence::Digest,          &CallSequence::State,
      &CallSequence::Watch,       &CallSequence::Rollback,        &CallSequence::Raw,
      &CallSequence::OpenStream,  &CallSequence::WriteStream,     &CallSequence::CloseStream,
      &CallSequence::Restart,     &CallSequence::ChangeCaller,    &CallSequence::Export,
      &CallSequence::Register,
  };
  static_assert(std::size(kFunctions) == kCallSteps);
  for (int step = 0; step < kMaxSteps && !input_.empty(); ++step) (this->*kFunctions[input_.Below(kCallSteps)])();
  for (OpenStreamState& stream : streams_) stream.push.reset();
}

std::string CallSequence::ModelName() {
  return input_.TakeSpecial() ? input_.Text() : kModels[input_.Below(std::size(kModels))];
}

uint64_t CallSequence::VersionOf(const std::string& model) {
  if (input_.TakeSpecial()) return input_.Number();
  uint64_t last = 0;
  for (const BegunUpdateRecord& update : ledger_.updates()) {
    if (update.request.model() == model) last = update.request.version();
  }
  // 1 is the next one; 4 and more are the same, as seen from versions before.
  const uint8_t choice = input_.Byte();
  const uint64_t back = choice / 4 % 4;
  return last - std::min(last, back) + choice % 4;
}

void CallSequence::AddTensors(v1::BeginUpdateRequest& request) {
  if (!input_.TakeSpecial()) {
    for (const PlainTensor& tensor : kManifests[input_.Below(std::size(kManifests))]) AddTensor(tensor, request);
    return;
  }
  for (size_t tensors = input_.Below(6); tensors > 0; --tensors) {
    v1::TensorSpec& spec = *request.add_tensors();
    spec.set_name(input_.Text());
    const bool any_dtype = input_.TakeSpecial();
    const absl::string_view dtype = DTypeName(static_cast<DType>(any_dtype ? 0 : input_.Below(kDTypeCount)));
    spec.set_dtype(any_dtype ? input_.Text() : std::string(dtype));
    for (size_t rank = input_.Below(5); rank > 0; --rank) spec.add_shape(input_.Number());
  }
}

void CallSequence::Begin() {
  static const char* const kSources[] = {"", "x", "y"};
  v1::BeginUpdateRequest request;
  request.set_model(ModelName());
  request.set_version(VersionOf(request.model()));
  AddTensors(request);
  request.set_source_id(input_.TakeSpecial() ? input_.Text() : kSources[input_.Below(std::size(kSources))]);
  request.set_bucket_limit_bytes(input_.Number());
  const uint8_t flags = input_.Byte();
  request.set_takes_everything_missing((flags & 1) != 0);
  if ((flags & 2) != 0) (*request.mutable_metadata())[input_.Text()] = input_.Text();
  v1::BeginUpdateResponse response;
  const grpc::Status status = server_.stub().BeginUpdate(server_.NewContext().get(), request, &response);
  if (server_.Checked(status, "BeginUpdate").ok()) ledger_.NoteBegun(request, response);
}

absl::optional<size_t> CallSequence::ChooseUpdate() {
  const size_t updates = ledger_.updates().size();
  if (input_.TakeSpecial() || updates == 0) return absl::nullopt;
  // 0 is the newest.
  return updates - 1 - input_.Below(updates);
}

std::string CallSequence::UpdateId() {
  const absl::optional<size_t> update = ChooseUpdate();
  return update.has_value() ? ledger_.updates()[*update].id : input_.Text();
}

void CallSequence::PushWholeUpdate() {
  const absl::optional<size_t> update = ChooseUpdate();
  const uint64_t wanted_bytes = input_.Number();
  if (!update.has_value()) return;
  const BegunUpdateRecord& record = ledger_.updates()[*update];
  uint64_t total_bytes = 0;
  for (const v1::TensorSpec& tensor : record.request.tensors()) total_bytes += BytesOf(tensor);
  const uint64_t least_bytes = std::max<uint64_t>(1, total_bytes / kMostChunksOfAnUpdate);
  const uint64_t chunk_bytes = std::min(std::max(wanted_bytes, least_bytes), kMaxChunkBytes);
  static_cast<void>(PushWhole(server_, record, chunk_bytes));
}

void CallSequence::AddFollowing(const BegunUpdateRecord& update, v1::WeightChunk& chunk) {
  const auto& tensors = update.request.tensors();
  const auto is_named = [&chunk](const v1::TensorSpec& tensor) { return tensor.name() == chunk.name(); };
  auto tensor = std::find_if(tensors.begin(), tensors.end(), is_named);
  if (tensor == tensors.end()) return;
  // Up to the tensor's end, as the protocol wants it, or as it is.
  if (input_.Below(2) == 0 && chunk.offset() <= BytesOf(*tensor)) {
    const uint64_t rest = std::min(BytesOf(*tensor) - chunk.offset(), kMaxChunkBytes);
    chunk.mutable_data()->assign(rest, update.fill);
  }
  for (size_t following = input_.Below(4); following > 0; --following) {
    // The first may follow the last, and the tensor itself too.
    if (++tensor == tensors.end()) tensor = tensors.begin();
    chunk.add_followed_by(tensor->name());
    if (chunk.data().size() < kMaxChunkBytes) {
      chunk.mutable_data()->append(std::min(BytesOf(*tensor), kMaxChunkBytes), update.fill);
    }
  }
  chunk.mutable_data()->append(input_.Below(3), update.fill);
  chunk.set_crc32c(ExtendCrc32c(0, chunk.data()));
}

void CallSequence::AddFault(const BegunUpdateRecord& update, ChunkFault fault, v1::WeightChunk& chunk) {
  switch (fault) {
    case ChunkFault::kWrongChecksum:
      chunk.set_crc32c(chunk.crc32c() ^ (1 + input_.Byte()));
      break;
    case ChunkFault::kNoChecksum:
      chunk.clear_crc32c();
      break;
    case ChunkFault::kOtherDType:
      chunk.set_dtype(input_.Text());
      break;
    case ChunkFault::kOtherShape:
      chunk.add_shape(input_.Number());
      break;
    case ChunkFault::kOtherName:
      chunk.set_name(input_.Text());
      break;
    case ChunkFault::kFollowedBy:
      AddFollowing(update, chunk);
      break;
    case ChunkFault::kOtherUpdate:
      chunk.set_update_id(input_.Text());
      break;
    case ChunkFault::kNone:
    case ChunkFault::kEditedBytes:
    case ChunkFault::kTruncated:
      break;
  }
}

std::string CallSequence::Chunk(size_t update) {
  const BegunUpdateRecord& record = ledger_.updates()[update];
  const auto& tensors = record.request.tensors();
  const size_t choice = input_.Byte();
  const v1::TensorSpec tensor =
      tensors.empty() ? v1::TensorSpec() : tensors[static_cast<int>(choice % static_cast<size_t>(tensors.size()))];
  const uint64_t offset = input_.Number();
  const uint64_t bytes = std::min(input_.Number(), kMaxChunkBytes);
  const auto fault = static_cast<ChunkFault>(input_.Below(kChunkFaults));
  v1::WeightChunk chunk = FilledChunk(record, tensor, offset, bytes);
  AddFault(record, fault, chunk);
  std::string message = chunk.SerializeAsString();
  if (fault == ChunkFault::kEditedBytes) {
    // Too few to change data and make the checksum right again.
    for (size_t edits = 1 + input_.Below(3); edits > 0; --edits) {
      const size_t at = (input_.Byte() | size_t{input_.Byte()} << 8) % message.size();
      message[at] = static_cast<char>(message[at] ^ input_.Byte());
    }
  } else if (fault == ChunkFault::kTruncated) {
    message.resize((input_.Byte() | size_t{input_.Byte()} << 8) % message.size());
  }
  return message;
}

void CallSequence::Push() {
  const absl::optional<size_t> update = ChooseUpdate();
  if (!update.has_value()) return;
  FuzzedPush push(server_);
  for (size_t chunks = input_.Below(6); chunks > 0; --chunks) {
    if (!push.Write(Chunk(*update))) break;
  }
  static_cast<void>(push.Finish());
}

void CallSequence::OpenStream() {
  OpenStreamState& stream = streams_[input_.Below(streams_.size())];
  const absl::optional<size_t> update = ChooseUpdate();
  if (!update.has_value()) return;
  stream = {std::make_unique<FuzzedPush>(server_), *update};
}

void CallSequence::WriteStream() {
  const OpenStreamState& stream = streams_[input_.Below(streams_.size())];
  if (stream.push != nullptr) stream.push->Write(Chunk(stream.update));
}

void CallSequence::CloseStream() {
  OpenStreamState& stream = streams_[input_.Below(streams_.size())];
  const bool in_order = input_.Below(2) == 0;
  if (stream.push != nullptr && in_order) static_cast<void>(stream.push->Finish());
  stream.push.reset();
}

void CallSequence::Commit() {
  v1::CommitUpdateRequest request;
  request.set_update_id(UpdateId());
  request.set_model(ModelName());
  v1::CommitUpdateResponse response;
  const grpc::Status status = server_.stub().CommitUpdate(server_.NewContext().get(), request, &response);
  if (server_.Checked(status, "CommitUpdate").ok()) ledger_.NoteCommitted(server_, request.update_id(), response);
}

void CallSequence::Abort() {
  v1::AbortUpdateRequest request;
  request.set_update_id(UpdateId());
  request.set_model(ModelName());
  request.set_reason(input_.Text());
  v1::AbortUpdateResponse response;
  const grpc::Status status = server_.stub().AbortUpdate(server_.NewContext().get(), request, &response);
  static_cast<void>(server_.Checked(status, "AbortUpdate"));
}

void CallSequence::Pull() {
  v1::PullRequest request;
  request.set_model(ModelName());
  request.set_version(VersionOf(request.model()));
  request.set_bucket_limit_bytes(input_.Number());
  for (size_t parts = input_.Below(4); parts > 0; --parts) {
    v1::TensorRanges& part = *request.add_parts();
    part.set_name(input_.TakeSpecial() ? input_.Text() : "w");
    for (size_t ranges = input_.Below(4); ranges > 0; --ranges) {
      v1::ByteRange& range = *part.add_ranges();
      range.set_begin(input_.Number());
      range.set_end(input_.Number());
    }
  }
  const auto context = server_.NewContext();
  const auto reader = server_.stub().Pull(context.get(), request);
  uint64_t chunks = 0;
  for (v1::WeightChunk chunk; reader->Read(&chunk);) {
    Require(chunk.data().size() <= kFuzzBucketBytes, "a pulled chunk keeps the limit");
    Require(chunk.crc32c() == ExtendCrc32c(0, chunk.data()), "a pulled chunk's checksum is right");
    // A byte a chunk is what was asked for; some of them will do.
    if (++chunks == 200) context->TryCancel();
  }
  const grpc::Status status = reader->Finish();
  if (chunks < 200) static_cast<void>(server_.Checked(status, "Pull"));
}

void CallSequence::GetManifest() {
  v1::GetManifestRequest request;
  request.set_model(ModelName());
  request.set_version(VersionOf(request.model()));
  v1::Manifest response;
  const grpc::Status status = server_.stub().GetManifest(server_.NewContext().get(), request, &response);
  static_cast<void>(server_.Checked(status, "GetManifest"));
}

void CallSequence::Digest() {
  v1::DigestModelRequest request;
  request.set_model(ModelName());
  request.set_version(VersionOf(request.model()));
  for (size_t names = input_.Below(3); names > 0; --names) request.add_names(input_.Text());
  const auto context = server_.NewContext();
  const auto reader = server_.stub().DigestModel(context.get(), request);
  for (v1::TensorDigest digest; reader->Read(&digest);) {
    Require(digest.version() != 0, "a digest names its version");
  }
  const grpc::Status status = reader->Finish();
  static_cast<void>(server_.Checked(status, "DigestModel"));
}

void CallSequence::State() { ledger_.CheckServer(server_); }

void CallSequence::Watch() {
  v1::WatchModelRequest request;
  request.set_model(ModelName());
  // The least: how soon the server notices that nobody watches any more.
  request.set_interval_ms(1);
  const auto context = server_.NewContext();
  const auto reader = server_.stub().WatchModel(context.get(), request);
  v1::Model model;
  const bool told = reader->Read(&model);
  if (told) context->TryCancel();
  const grpc::Status status = reader->Finish();
  if (!told) {
    const absl::Status checked = server_.Checked(status, "WatchModel");
    Require(absl::IsInvalidArgument(checked) || !MayCall(server_.caller(), "WatchModel"),
            "a watch starts with the state", checked.ToString());
  }
}

void CallSequence::Rollback() {
  v1::RollbackModelRequest request;
  request.set_model(ModelName());
  request.set_version(VersionOf(request.model()));
  v1::RollbackModelResponse response;
  const grpc::Status status = server_.stub().RollbackModel(server_.NewContext().get(), request, &response);
  if (server_.Checked(status, "RollbackModel").ok()) ledger_.NoteRolledBack(request.model(), response);
}

void CallSequence::Raw() {
  const std::string method(kCalledMethods[input_.Below(std::size(kCalledMethods))].path);
  const std::string message = input_.Text();
  std::string answer;
  if (!RawCall(server_, method, message, &answer).ok()) return;
  // What changes the state is noted like any other call. A commit needs an id, which no input can know.
  v1::BeginUpdateRequest begin;
  v1::BeginUpdateResponse begun;
  if (absl::EndsWith(method, "/BeginUpdate") && begin.ParseFromString(message) && begun.ParseFromString(answer)) {
    ledger_.NoteBegun(begin, begun);
  }
  v1::RollbackModelRequest rollback;
  v1::RollbackModelResponse rolled_back;
  if (absl::EndsWith(method, "/RollbackModel") && rollback.ParseFromString(message) &&
      rolled_back.ParseFromString(answer)) {
    ledger_.NoteRolledBack(rollback.model(), rolled_back);
  }
}

void CallSequence::Restart() {
  for (OpenStreamState& stream : streams_) stream.push.reset();
  server_.Restart();
  ledger_.CheckServer(server_);
}

void CallSequence::ChangeCaller() { server_.set_caller(static_cast<Caller>(input_.Below(kCallers))); }

void CallSequence::Export() {
  v1::ExportTargetRequest request;
  request.set_model(ModelName());
  request.set_version(VersionOf(request.model()));
  const auto context = server_.NewContext();
  const auto reader = server_.stub().ExportTarget(context.get(), request);
  v1::ExportedTarget target;
  Require(!reader->Read(&target), "files are not exported as memory");
  const grpc::Status status = reader->Finish();
  Require(!server_.Checked(status, "ExportTarget").ok(), "an export that tells nothing says why");
}

void CallSequence::Register() {
  v1::RegisterTargetsRequest request;
  request.set_model(ModelName());
  for (size_t memories = input_.Below(3); memories > 0; --memories) {
    v1::DeviceMemory& memory = *request.add_memory();
    memory.set_handle(input_.Text());
    memory.set_device_uuid(input_.Text());
    memory.set_offset(input_.Number());
    memory.set_bytes(input_.Number());
  }
  for (size_t tensors = input_.Below(4); tensors > 0; --tensors) {
    v1::TargetTensor& tensor = *request.add_tensors();
    tensor.mutable_spec()->set_name(input_.TakeSpecial() ? input_.Text() : "w");
    const bool any_dtype = input_.TakeSpecial();
    const absl::string_view dtype = DTypeName(static_cast<DType>(any_dtype ? 0 : input_.Below(kDTypeCount)));
    tensor.mutable_spec()->set_dtype(any_dtype ? input_.Text() : std::string(dtype));
    for (size_t rank = input_.Below(4); rank > 0; --rank) tensor.mutable_spec()->add_shape(input_.Number());
    tensor.set_memory(static_cast<uint32_t>(input_.Number()));
    tensor.set_offset(input_.Number());
    if (input_.Below(2) == 0) continue;
    tensor.mutable_slice()->set_dimension(static_cast<uint32_t>(input_.Number()));
    tensor.mutable_slice()->set_begin(input_.Number());
    tensor.mutable_slice()->set_end(input_.Number());
  }
  request.set_partial(input_.Below(2) == 1);
  const auto context = server_.NewContext();
  const auto reader = server_.stub().RegisterTargets(context.get(), request);
  v1::TargetsState state;
  Require(!reader->Read(&state), "a host's server writes into files alone");
  const grpc::Status status = reader->Finish();
  Require(!server_.Checked(status, "RegisterTargets").ok(), "a registration that is not taken says why");
}

}  // namespace weightstream
