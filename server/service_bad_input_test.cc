// Whatever a client sends, the call ends with a clear error, the server goes on, and the committed version stays.
#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/checksum.h"
#include "server/test_server.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

class BadInputTest : public testing::Test {
 protected:
  BadInputTest() {
    EXPECT_TRUE(client_->PushVersion("m", 1, committed_).ok());
    const auto begun = client_->Begin(BeginRequest("m", 2, {tensor_}));
    EXPECT_TRUE(begun.ok()) << begun.status();
    if (begun.ok()) update_id_ = begun->update_id();
  }

  // After each test: the server is there, what was committed is untouched, and the update can still be finished.
  ~BadInputTest() override {
    EXPECT_EQ(client_->PullTensors("m", 1).value(), DataOf(committed_));
    EXPECT_EQ(client_->GetModel("m")->current_version(), 1u);
    EXPECT_TRUE(client_->Push(ChunksOf({tensor_}, 1000, update_id_)).ok());
    EXPECT_TRUE(client_->Commit("m", update_id_).ok());
    EXPECT_EQ(client_->PullTensors("m").value(), DataOf({tensor_}));
  }

  static TestServerOptions Options() {
    TestServerOptions options;
    options.limits.manifest_bytes = 20'000;
    options.limits.model_bytes = 1 << 20;
    return options;
  }

  v1::WeightChunk GoodChunk() const { return ChunkOf(tensor_, 512, 100, update_id_); }
  absl::Status PushOne(const v1::WeightChunk& chunk) { return client_->Push({chunk}).status(); }
  absl::Status Begin(const std::string& model, const std::vector<TestTensor>& tensors) {
    return client_->Begin(BeginRequest(model, 1, tensors)).status();
  }

  TestServer server_{Options()};
  const std::unique_ptr<TestClient> client_ = server_.NewClient();
  const std::vector<TestTensor> committed_ = VariedTensors(9);
  const TestTensor tensor_ = MakeTensor("weight", DType::kF32, {16, 32}, 1);  // 2048 bytes
  std::string update_id_;
};

// ---- Chunks ----

TEST_F(BadInputTest, ChunkOfAnUnknownTensor) {
  v1::WeightChunk chunk = GoodChunk();
  chunk.set_name("nobody");
  ExpectError(PushOne(chunk), StatusCode::kInvalidArgument, {"'nobody'", "version 2 of model 'm' has no such tensor"});
}

TEST_F(BadInputTest, ChunkOfAnUnknownUpdate) {
  v1::WeightChunk chunk = GoodChunk();
  chunk.set_update_id("made-up");
  ExpectError(PushOne(chunk), StatusCode::kNotFound, {"no update 'made-up'", "begin it again"});
}

TEST_F(BadInputTest, ChunkWhoseShapeOrDtypeContradictsTheManifest) {
  v1::WeightChunk chunk = GoodChunk();
  chunk.set_dtype("I32");
  ExpectError(PushOne(chunk), StatusCode::kInvalidArgument, {"'weight'", "I32[16, 32]", "F32[16, 32]"});
  chunk = GoodChunk();
  chunk.set_shape(0, 32);
  chunk.set_shape(1, 16);
  ExpectError(PushOne(chunk), StatusCode::kInvalidArgument, {"'weight'", "F32[32, 16]", "F32[16, 32]"});
  chunk.clear_shape();
  ExpectError(PushOne(chunk), StatusCode::kInvalidArgument, {"'weight'", "F32[]"});
}

TEST_F(BadInputTest, ChunkPastTheEndHoweverItsOffsetIsWritten) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  for (const uint64_t offset : {uint64_t{1949}, uint64_t{2049}, uint64_t{1} << 63, kMax, kMax - 99}) {
    v1::WeightChunk chunk = GoodChunk();
    chunk.set_offset(offset);
    ExpectError(PushOne(chunk), StatusCode::kInvalidArgument,
                {"'weight'", absl::StrCat("from offset ", offset), "end at 2048"});
  }
}

TEST_F(BadInputTest, ChunkOverTheBucketLimit) {
  ExpectError(PushOne(ChunkOf(tensor_, 0, 1001, update_id_)), StatusCode::kResourceExhausted,
              {"'weight'", "1001 bytes", "bucket limit of 1000", "smaller chunks"});
}

TEST_F(BadInputTest, MessageOverTheLimit) {
  v1::WeightChunk chunk = GoodChunk();
  chunk.set_data(std::string(100'000, 'x'));
  ExpectError(PushOne(chunk), StatusCode::kResourceExhausted, {"larger than max"});
  std::vector<TestTensor> many;
  for (int i = 0; i < 10'000; ++i) many.push_back(MakeTensor(absl::StrCat("tensor-", i), DType::kU8, {1}, 1));
  ExpectError(Begin("n", many), StatusCode::kResourceExhausted, {"larger than max"});
}

TEST_F(BadInputTest, ChunkWithAWrongChecksum) {
  v1::WeightChunk chunk = GoodChunk();
  chunk.set_crc32c(chunk.crc32c() ^ 0x100);
  ExpectError(PushOne(chunk), StatusCode::kDataLoss, {"'weight' at offset 512, 100 bytes", "CRC32C", "send it again"});
  EXPECT_EQ(client_->GetModel("m")->updates(0).landed_bytes(), 0u);
  chunk.clear_crc32c();
  ExpectError(PushOne(chunk), StatusCode::kInvalidArgument, {"'weight'", "no crc32c"});
}

TEST_F(BadInputTest, ChunkWhoseOffsetWasDamagedOnTheWay) {
  v1::WeightChunk chunk = GoodChunk();
  const std::string data = chunk.data();
  chunk.clear_data();
  chunk.set_header_crc32c(ExtendCrc32c(0, chunk.SerializeAsString()));
  chunk.set_data(data);
  v1::WeightChunk damaged = chunk;
  damaged.set_offset(chunk.offset() ^ 0x400);
  ExpectError(PushOne(damaged), StatusCode::kDataLoss, {"'weight'", "header_crc32c", "send it again"});
  EXPECT_EQ(client_->GetModel("m")->updates(0).landed_bytes(), 0u);
  EXPECT_TRUE(PushOne(chunk).ok());
}

TEST_F(BadInputTest, ChunkThatIsNoMessage) {
  ExpectError(
      client_->RawCall("/weightstream.v1.WeightStream/Push", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").status(),
      StatusCode::kInvalidArgument, {});
  ExpectError(client_->RawCall("/weightstream.v1.WeightStream/Push", std::string("\x0a\x7fshort", 7)).status(),
              StatusCode::kInvalidArgument, {});
  ExpectError(client_->RawCall("/weightstream.v1.WeightStream/Push", std::string("\x0a\x02\xff\xfe", 4)).status(),
              StatusCode::kInvalidArgument, {"UTF-8"});
}

TEST_F(BadInputTest, RequestThatIsNoMessage) {
  for (const std::string method : {"BeginUpdate", "CommitUpdate", "AbortUpdate", "Pull", "GetManifest", "DigestModel",
                                   "GetModel", "ListModels", "WatchModel", "RollbackModel"}) {
    ExpectError(client_->RawCall("/weightstream.v1.WeightStream/" + method, "\xff\xff\xff\xff").status(),
                StatusCode::kInvalidArgument, {method + " message of 4 bytes", "weightstream.v1.", "cut or damaged"});
  }
  // A model's name that is no UTF-8, and one that is cut.
  ExpectError(client_->RawCall("/weightstream.v1.WeightStream/GetModel", std::string("\x0a\x02\xff\xfe", 4)).status(),
              StatusCode::kInvalidArgument, {"weightstream.v1.GetModelRequest", "not UTF-8"});
  ExpectError(client_->RawCall("/weightstream.v1.WeightStream/Pull", std::string("\x0a\x7fshort", 7)).status(),
              StatusCode::kInvalidArgument, {"weightstream.v1.PullRequest"});
}

TEST_F(BadInputTest, ABadChunkDoesNotTakeTheGoodOnesBeforeItAway) {
  v1::WeightChunk bad = GoodChunk();
  bad.set_name("nobody");
  EXPECT_FALSE(client_->Push({ChunkOf(tensor_, 0, 512, update_id_), bad}).ok());
  EXPECT_EQ(client_->GetModel("m")->updates(0).landed_bytes(), 512u);
}

// ---- Manifests and names ----

TEST_F(BadInputTest, DuplicateTensorNames) {
  ExpectError(Begin("n", {tensor_, tensor_}), StatusCode::kInvalidArgument, {"weight"});
}

TEST_F(BadInputTest, TensorNamesMayBeAnyTextButNotAnything) {
  const auto named = [](const std::string& name) { return MakeTensor(name, DType::kU8, {1}, 1); };
  EXPECT_TRUE(Begin("n", {named("../../etc/passwd")}).ok());
  EXPECT_TRUE(Begin("n", {named("a/b"), named(".."), named(" "), named("\xe2\x82\xac")}).ok());
  EXPECT_TRUE(Begin("n", {named(std::string(4096, 'n'))}).ok());
  ExpectError(Begin("n", {named(std::string("a\0b", 3))}), StatusCode::kInvalidArgument, {"NUL"});
  ExpectError(Begin("n", {named("")}), StatusCode::kInvalidArgument, {"name"});
  ExpectError(Begin("n", {named(std::string(4097, 'n'))}), StatusCode::kInvalidArgument, {"4096"});
}

TEST_F(BadInputTest, TensorNamesOf64KiB) {
  TestServer server;  // with the default's room for manifests
  const auto request = BeginRequest("n", 1, {MakeTensor(std::string(64 << 10, 'n'), DType::kU8, {1}, 1)});
  ExpectError(server.NewClient()->Begin(request).status(), StatusCode::kInvalidArgument, {"4096"});
}

TEST_F(BadInputTest, ModelNamesBecomePathsAndSayToWhatTheyAreRestricted) {
  for (const std::string& name :
       {std::string(), std::string(".."), std::string("../m"), std::string("a/b"), std::string("/etc"),
        std::string("m\0", 2), std::string("a b"), std::string("\xc3\xa4"), std::string(10'000, 'm')}) {
    ExpectError(Begin(name, {}), StatusCode::kInvalidArgument, {"A-Z a-z 0-9 . _ -", "128"});
    v1::WatchModelRequest watch;
    watch.set_model(name);
    v1::Model state;
    const auto context = NewContext();
    const auto watcher = client_->stub().WatchModel(context.get(), watch);
    EXPECT_FALSE(watcher->Read(&state));
    EXPECT_EQ(watcher->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  EXPECT_FALSE(client_->GetModel("../m").ok());
}

TEST_F(BadInputTest, ShapesAndDtypesThatMakeNoSense) {
  auto request = BeginRequest("n", 1, {tensor_});
  request.mutable_tensors(0)->set_dtype("FLOAT");
  ExpectError(client_->Begin(request).status(), StatusCode::kInvalidArgument, {"weight", "FLOAT", "BF16"});
  request = BeginRequest("n", 1, {tensor_});
  request.mutable_tensors(0)->set_shape(0, uint64_t{1} << 63);
  ExpectError(client_->Begin(request).status(), StatusCode::kInvalidArgument, {"weight"});
  request.mutable_tensors(0)->clear_shape();
  for (int i = 0; i < 65; ++i) request.mutable_tensors(0)->add_shape(1);
  ExpectError(client_->Begin(request).status(), StatusCode::kInvalidArgument, {"weight", "64"});
  request = BeginRequest("n", 1, {tensor_});
  request.mutable_tensors(0)->set_dtype("F4");
  request.mutable_tensors(0)->clear_shape();
  request.mutable_tensors(0)->add_shape(3);
  ExpectError(client_->Begin(request).status(), StatusCode::kInvalidArgument, {"weight"});
}

TEST_F(BadInputTest, ManifestLargerThanMemoryAllows) {
  const auto sized = [](uint64_t bytes) {
    auto request = BeginRequest("n", 1, {MakeTensor("t", DType::kU8, {1}, 1)});
    request.mutable_tensors(0)->set_shape(0, bytes);
    return request;
  };
  ExpectError(client_->Begin(sized((1 << 20) + 1)).status(), StatusCode::kResourceExhausted,
              {"1048577 bytes", "1048576 bytes", "--max-model-gib"});
  TestServer unlimited;
  ExpectError(unlimited.NewClient()->Begin(sized(uint64_t{1} << 61)).status(), StatusCode::kResourceExhausted,
              {"'n' needs", unlimited.data_dir(), "free"});
}

// ---- Out of turn ----

TEST_F(BadInputTest, CommitBeforeComplete) {
  ExpectError(client_->Commit("m", update_id_).status(), StatusCode::kFailedPrecondition,
              {"2048 of 2048 bytes", "'weight' [0, 2048)", "push them and commit again"});
  ExpectError(client_->Commit("m", "made-up").status(), StatusCode::kNotFound, {"'made-up'"});
  ExpectError(client_->Commit("none", update_id_).status(), StatusCode::kNotFound, {"no model 'none'"});
}

TEST_F(BadInputTest, PushAndAbortAfterCommit) {
  const auto begun = client_->Begin(BeginRequest("n", 1, {tensor_}));
  ASSERT_TRUE(begun.ok());
  const auto chunks = ChunksOf({tensor_}, 1000, begun->update_id());
  ASSERT_TRUE(client_->Push(chunks).ok());
  ASSERT_TRUE(client_->Commit("n", begun->update_id()).ok());
  ExpectError(client_->Push(chunks).status(), StatusCode::kFailedPrecondition, {"is committed", "higher version"});
  ExpectError(client_->Abort("n", begun->update_id(), ""), StatusCode::kFailedPrecondition, {"committed"});
  EXPECT_EQ(client_->PullTensors("n").value(), DataOf({tensor_}));
}

TEST_F(BadInputTest, BeginOfWhatIsCommittedOrOlder) {
  ExpectError(client_->Begin(BeginRequest("m", 1, {})).status(), StatusCode::kAlreadyExists, {"version 1"});
  ExpectError(client_->Begin(BeginRequest("n", 0, {})).status(), StatusCode::kInvalidArgument, {"start at 1"});
}

TEST_F(BadInputTest, LongErrorsStillArrive) {
  // gRPC drops a status whose message outgrows its headers.
  v1::WeightChunk chunk = GoodChunk();
  chunk.set_name(std::string(4000, '\n'));
  ExpectError(PushOne(chunk), StatusCode::kInvalidArgument, {"no such tensor"});
}

}  // namespace
}  // namespace weightstream
