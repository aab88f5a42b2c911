// The whole way of a version through a real server, over each kind of device.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <numeric>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/begin_codec.h"
#include "proto/convert.h"
#include "server/log.h"
#include "server/test_server.h"
#include "server/test_update.h"
#include "tensor/mapped_file.h"
#include "tensor/safetensors_layout.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

class ServiceFlowTest : public testing::TestWithParam<TestDevice> {
 protected:
  TestServer server_{GetParam().Options()};
  std::unique_ptr<TestClient> client_ = server_.NewClient();
};

// What is so of versions that are files.
class ServiceFilesTest : public ServiceFlowTest {};

std::string NameOf(const testing::TestParamInfo<TestDevice>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Devices, ServiceFlowTest, testing::ValuesIn(TestDevices()), NameOf);
INSTANTIATE_TEST_SUITE_P(Devices, ServiceFilesTest, testing::ValuesIn(TestDevicesWithFiles()), NameOf);

TEST_P(ServiceFlowTest, APushedVersionIsCurrentBitForBit) {
  const auto tensors = VariedTensors(1);
  auto request = BeginRequest("m", 3, tensors);
  request.set_bucket_limit_bytes(777);
  (*request.mutable_metadata())["format"] = "pt";
  const auto begun = client_->Begin(request);
  ASSERT_TRUE(begun.ok()) << begun.status();
  EXPECT_FALSE(begun->resumed());
  EXPECT_EQ(begun->bucket_limit_bytes(), 777u);
  EXPECT_EQ(begun->missing_size(), 6) << "all but the empty one";
  EXPECT_EQ(begun->missing_bytes(), begun->total_bytes());

  const auto chunks = ChunksOf(tensors, 777, begun->update_id());
  const auto pushed = client_->Push(chunks);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->chunks(), chunks.size());
  EXPECT_EQ(pushed->bytes(), begun->total_bytes());
  EXPECT_EQ(pushed->missing_bytes(), 0u);

  const auto committed = client_->Commit("m", begun->update_id());
  ASSERT_TRUE(committed.ok()) << committed.status();
  EXPECT_EQ(committed->version(), 3u);
  EXPECT_EQ(committed->total_bytes(), begun->total_bytes());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(tensors));

  EXPECT_EQ(committed->path().empty(), !GetParam().keeps_files);
}

TEST_P(ServiceFilesTest, AnySafetensorsReaderSeesTheVersionInItsFile) {
  const auto tensors = VariedTensors(1);
  auto request = BeginRequest("m", 3, tensors);
  (*request.mutable_metadata())["format"] = "pt";
  const auto begun = client_->Begin(request);
  ASSERT_TRUE(begun.ok()) << begun.status();
  ASSERT_TRUE(client_->Push(ChunksOf(tensors, 1000, begun->update_id())).ok());
  const auto committed = client_->Commit("m", begun->update_id());
  ASSERT_TRUE(committed.ok()) << committed.status();
  EXPECT_EQ(committed->path(), absl::StrCat(server_.data_dir(), "/m/3/model.safetensors"));
  const auto file = MappedFile::Open(absl::StrCat(server_.data_dir(), "/m/current/model.safetensors")).value();
  const auto layout = ParseSafetensors("file", file->bytes(), file->bytes().size());
  ASSERT_TRUE(layout.ok()) << layout.status();
  std::map<std::string, std::string> in_file;
  for (const PlacedTensor& tensor : layout->tensors) {
    in_file[tensor.spec.name] =
        std::string(file->bytes().substr(layout->data_start + tensor.range.begin, tensor.range.size()));
  }
  EXPECT_EQ(in_file, DataOf(tensors));
  EXPECT_EQ(layout->metadata.at("format"), "pt");
}

// Begins as our senders do, the tensors last, and returns whether the manifest was known, which the log tells.
absl::StatusOr<bool> BeginsWithKnown(TestClient& client, const v1::BeginUpdateRequest& request,
                                     v1::BeginUpdateResponse& response) {
  const std::vector<TensorSpec> tensors = FromProto(request.tensors()).value();
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  v1::BeginUpdateRequest fields = request;
  fields.clear_tensors();
  grpc::Slice message;
  if (!EncodeBeginRequest(fields, EncodeManifest(tensors, order)).DumpToSingleSlice(&message).ok()) {
    return absl::InternalError("a message cannot be read");
  }
  testing::internal::CaptureStderr();
  const auto replied = client.RawCall("/weightstream.v1.WeightStream/BeginUpdate",
                                      std::string(reinterpret_cast<const char*>(message.begin()), message.size()));
  const std::string log = testing::internal::GetCapturedStderr();
  if (!replied.ok()) return replied.status();
  EXPECT_TRUE(response.ParseFromString(*replied));
  const bool known = absl::StrContains(log, " manifest_known=true ");
  EXPECT_NE(known, absl::StrContains(log, " manifest_known=false ")) << log;
  return known;
}

// A manifest that came before is known by its bytes, and not read again.
TEST_P(ServiceFilesTest, EachVersionsFileIsItsOwnWhetherItsManifestWasKnownOrNot) {
  const auto tensors = VariedTensors(1);
  auto renamed = tensors;
  renamed[0].spec.name[0] ^= 1;
  struct Push {
    std::vector<TestTensor> tensors;
    std::string step;
    bool known;
  };
  // The one without tensors has no manifest to know, and leaves the one before.
  const std::vector<Push> pushes = {{tensors, "1", false}, {tensors, "1", true},  {tensors, "2", true},
                                    {tensors, "2", true},  {renamed, "2", false}, {renamed, "2", true},
                                    {{}, "2", false},      {renamed, "1", true},  {tensors, "1", false}};
  ASSERT_TRUE(StartLogging("info", LogFormat::kText).ok());
  for (size_t i = 0; i < pushes.size(); ++i) {
    auto request = BeginRequest("m", i + 1, pushes[i].tensors);
    (*request.mutable_metadata())["step"] = pushes[i].step;
    v1::BeginUpdateResponse begun;
    const auto known = BeginsWithKnown(*client_, request, begun);
    ASSERT_TRUE(known.ok()) << known.status();
    EXPECT_EQ(*known, pushes[i].known) << "push " << i;
    v1::BeginUpdateResponse resumed;
    const auto known_again = BeginsWithKnown(*client_, request, resumed);
    ASSERT_TRUE(known_again.ok()) << known_again.status();
    EXPECT_EQ(*known_again, !pushes[i].tensors.empty());
    EXPECT_TRUE(resumed.resumed());
    EXPECT_EQ(resumed.update_id(), begun.update_id());
    // As generated code writes it, the tensors before other fields, it is read, and is the same.
    const auto from_generated_code = client_->Begin(request);
    ASSERT_TRUE(from_generated_code.ok()) << from_generated_code.status();
    EXPECT_EQ(from_generated_code->update_id(), begun.update_id());
    ASSERT_TRUE(client_->Push(ChunksOf(pushes[i].tensors, 1000, begun.update_id())).ok());
    const auto committed = client_->Commit("m", begun.update_id());
    ASSERT_TRUE(committed.ok()) << committed.status();
    EXPECT_EQ(client_->PullTensors("m").value(), DataOf(pushes[i].tensors));

    std::vector<TensorSpec> specs;
    for (const TestTensor& tensor : pushes[i].tensors) specs.push_back(tensor.spec);
    const SafetensorsLayout layout = LayOutSafetensors(specs, {{"step", pushes[i].step}}).value();
    const auto file = MappedFile::Open(committed->path()).value();
    EXPECT_EQ(file->bytes().substr(0, layout.data_start), EncodeSafetensorsHeader(layout)) << "push " << i;
    EXPECT_EQ(file->bytes().size(), layout.file_bytes());
  }
}

TEST_P(ServiceFlowTest, EverythingMissingIsSaidInOneWordToWhoTakesIt) {
  const std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {3000}, 5), MakeTensor("s", DType::kF32, {}, 6)};
  auto request = BeginRequest("m", 1, tensors);
  request.set_takes_everything_missing(true);
  const auto begun = client_->Begin(request);
  ASSERT_TRUE(begun.ok()) << begun.status();
  EXPECT_TRUE(begun->everything_missing());
  EXPECT_EQ(begun->missing_size(), 0);
  EXPECT_EQ(begun->missing_bytes(), 3004u);
  EXPECT_TRUE(client_->Begin(request)->everything_missing()) << "a resume of nothing";
  EXPECT_EQ(client_->Begin(BeginRequest("m", 1, tensors))->missing_size(), 2) << "who does not take it gets the list";

  ASSERT_TRUE(client_->Push({ChunkOf(tensors[0], 1000, 500, begun->update_id())}).ok());
  const auto resumed = client_->Begin(request);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_FALSE(resumed->everything_missing());
  EXPECT_EQ(resumed->missing_size(), 2);
  EXPECT_EQ(resumed->missing_bytes(), 2504u);
}

TEST_P(ServiceFlowTest, ResumeSendsOnlyMissingRanges) {
  const std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {3000}, 5), MakeTensor("s", DType::kF32, {}, 6)};
  const auto begun = client_->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(begun.ok());
  ASSERT_TRUE(client_->Push({ChunkOf(tensors[0], 1000, 500, begun->update_id())}).ok());
  // Another process, later.
  client_ = server_.NewClient();
  const auto resumed = client_->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_TRUE(resumed->resumed());
  EXPECT_EQ(resumed->update_id(), begun->update_id());
  EXPECT_EQ(resumed->missing_bytes(), 2504u);
  std::vector<v1::WeightChunk> chunks;
  for (const v1::TensorRanges& missing : resumed->missing()) {
    for (const v1::ByteRange& range : missing.ranges()) {
      const TestTensor& tensor = missing.name() == "t" ? tensors[0] : tensors[1];
      for (uint64_t at = range.begin(); at < range.end(); at += 1000) {
        chunks.push_back(ChunkOf(tensor, at, std::min<uint64_t>(1000, range.end() - at), resumed->update_id()));
      }
    }
  }
  const auto pushed = client_->Push(chunks);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(pushed->bytes(), 2504u);
  ASSERT_TRUE(client_->Commit("m", resumed->update_id()).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(tensors));
}

TEST_P(ServiceFlowTest, ManyStreamsBringAnyOrderAndDuplicates) {
  constexpr int kStreams = 6;
  const std::vector<TestTensor> tensors = {MakeTensor("t", DType::kU8, {40'000}, 5),
                                           MakeTensor("u", DType::kU8, {20'001}, 6)};
  const auto begun = client_->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(begun.ok());
  const auto all = ChunksOf(tensors, 500, begun->update_id());
  std::vector<std::thread> streams;
  for (int stream = 0; stream < kStreams; ++stream) {
    streams.emplace_back([&, stream] {
      // Half of the chunks each: each comes three times.
      std::vector<v1::WeightChunk> mine;
      for (size_t i = 0; i < all.size(); ++i) {
        if ((i + static_cast<size_t>(stream)) % 2 == 0) mine.push_back(all[i]);
      }
      std::shuffle(mine.begin(), mine.end(), std::mt19937(static_cast<uint32_t>(stream)));
      const auto pushed = server_.NewClient()->Push(mine);
      EXPECT_TRUE(pushed.ok()) << pushed.status();
    });
  }
  for (std::thread& stream : streams) stream.join();
  const auto model = client_->GetModel("m");
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->updates(0).landed_bytes(), 60'001u);
  EXPECT_EQ(model->updates(0).open_streams(), 0u);
  ASSERT_TRUE(client_->Commit("m", begun->update_id()).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(tensors));
}

TEST_P(ServiceFlowTest, AnEmptyModelIsAVersion) {
  EXPECT_TRUE(client_->PushVersion("m", 1, {}).ok());
  EXPECT_TRUE(client_->PullTensors("m").value().empty());
  EXPECT_EQ(client_->GetModel("m")->current_version(), 1u);
}

TEST_P(ServiceFlowTest, AModelOfEmptyTensorsNeedsNoChunk) {
  const std::vector<TestTensor> tensors = {MakeTensor("a", DType::kF32, {0}, 1),
                                           MakeTensor("b", DType::kU8, {5, 0}, 1)};
  const auto begun = client_->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(begun.ok());
  EXPECT_EQ(begun->missing_size(), 0);
  // One is taken all the same.
  EXPECT_TRUE(client_->Push({ChunkOf(tensors[0], 0, 0, begun->update_id())}).ok());
  EXPECT_TRUE(client_->Commit("m", begun->update_id()).ok());
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(tensors));
}

TEST_P(ServiceFlowTest, VersionsFollowEachOtherAndRollBack) {
  for (uint64_t version = 1; version <= 3; ++version) {
    ASSERT_TRUE(client_->PushVersion("m", version, VariedTensors(version)).ok());
    EXPECT_EQ(client_->PullTensors("m").value(), DataOf(VariedTensors(version)));
  }
  const auto rolled = client_->Rollback("m", 2);
  ASSERT_TRUE(rolled.ok()) << rolled.status();
  EXPECT_EQ(rolled->previous_version(), 3u);
  EXPECT_EQ(rolled->model().current_version(), 2u);
  EXPECT_EQ(rolled->model().highest_version(), 3u);
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(VariedTensors(2)));
  EXPECT_EQ(client_->PullTensors("m", 3).value(), DataOf(VariedTensors(3)));
  ExpectError(client_->Rollback("m", 1).status(), StatusCode::kNotFound, {"does not hold version 1", "it holds 2, 3"});
}

TEST_P(ServiceFilesTest, ARestartServesWhatWasCommittedAndForgetsTheRest) {
  ASSERT_TRUE(client_->PushVersion("m", 1, VariedTensors(1)).ok());
  const auto begun = client_->Begin(BeginRequest("m", 2, VariedTensors(2)));
  ASSERT_TRUE(begun.ok());
  const auto chunks = ChunksOf(VariedTensors(2), 1000, begun->update_id());
  ASSERT_TRUE(client_->Push({chunks[0]}).ok());
  server_.Restart();
  client_ = server_.NewClient();
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(VariedTensors(1)));
  EXPECT_THAT(NamesIn(absl::StrCat(server_.data_dir(), "/m")), ElementsAre("1", "current"));
  ExpectError(client_->Push({chunks[0]}).status(), StatusCode::kNotFound, {"no update", "begin it again"});
  EXPECT_TRUE(client_->PushVersion("m", 2, VariedTensors(2)).ok());
}

TEST_P(ServiceFlowTest, CommitAndAbortRepeatTheirAnswers) {
  const auto tensors = VariedTensors(1);
  const auto begun = client_->Begin(BeginRequest("m", 1, tensors));
  ASSERT_TRUE(client_->Push(ChunksOf(tensors, 1000, begun->update_id())).ok());
  const auto first = client_->Commit("m", begun->update_id());
  const auto second = client_->Commit("m", begun->update_id());
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  EXPECT_EQ(first->SerializeAsString(), second->SerializeAsString());
  const auto next = client_->Begin(BeginRequest("m", 2, tensors));
  EXPECT_TRUE(client_->Abort("m", next->update_id(), "no longer wanted").ok());
  EXPECT_TRUE(client_->Abort("m", next->update_id(), "").ok());
  const auto model = client_->GetModel("m");
  EXPECT_EQ(model->updates(0).state(), v1::UPDATE_STATE_ABORTED);
  EXPECT_EQ(model->updates(0).reason(), "aborted by its sender: no longer wanted");
  EXPECT_EQ(model->updates(1).state(), v1::UPDATE_STATE_COMMITTED);
}

TEST_P(ServiceFlowTest, ListModelsNamesThemAll) {
  ASSERT_TRUE(client_->PushVersion("b", 1, VariedTensors(1)).ok());
  ASSERT_TRUE(client_->PushVersion("a", 2, VariedTensors(1)).ok());
  v1::ListModelsResponse response;
  ASSERT_TRUE(client_->stub().ListModels(NewContext().get(), {}, &response).ok());
  ASSERT_EQ(response.models_size(), 2);
  EXPECT_EQ(response.models(0).name(), "a");
  EXPECT_EQ(response.models(1).name(), "b");
  const v1::VersionInfo& version = response.models(0).versions(0);
  EXPECT_EQ(version.version(), 2u);
  EXPECT_EQ(version.tensors(), 7u);
  EXPECT_GT(version.commit_time().seconds(), 0);
  EXPECT_EQ(version.manifest_crc32c(), response.models(1).versions(0).manifest_crc32c()) << "the same manifest";
}

TEST_P(ServiceFilesTest, AFullDiskIsAnErrorOnTheCallAndHarmsNothing) {
  std::atomic<bool> full{false};
  TestServerOptions options = GetParam().Options();
  options.device.fallocate = [&](int fd, uint64_t offset, uint64_t bytes) {
    return full ? ENOSPC : SystemFallocate(fd, offset, bytes);
  };
  TestServer server(options);
  const auto client = server.NewClient();
  ASSERT_TRUE(client->PushVersion("m", 1, VariedTensors(1)).ok());
  full = true;
  ExpectError(client->PushVersion("m", 2, VariedTensors(2)), StatusCode::kResourceExhausted, {server.data_dir()});
  EXPECT_EQ(client->PullTensors("m").value(), DataOf(VariedTensors(1)));
  full = false;
  // The update is still there: what is missing goes in once there is room.
  EXPECT_TRUE(client->PushVersion("m", 2, VariedTensors(2)).ok());
}

}  // namespace
}  // namespace weightstream
