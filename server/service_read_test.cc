// Reading committed versions back: Pull, GetManifest, DigestModel.
#include <algorithm>
#include <map>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/checksum.h"
#include "proto/status.h"
#include "server/test_server.h"
#include "tensor/test_files.h"

namespace weightstream {
namespace {

using absl::StatusCode;

class ServiceReadTest : public testing::TestWithParam<TestDevice> {
 protected:
  ServiceReadTest() {
    EXPECT_TRUE(client_->PushVersion("m", 1, VariedTensors(1)).ok());
    EXPECT_TRUE(client_->PushVersion("m", 2, VariedTensors(2)).ok());
  }

  static v1::PullRequest PullOf(uint64_t version, uint64_t bucket_bytes = 0) {
    v1::PullRequest request;
    request.set_model("m");
    request.set_version(version);
    request.set_bucket_limit_bytes(bucket_bytes);
    return request;
  }

  static void AddPart(v1::PullRequest& request, const std::string& name,
                      const std::vector<std::pair<uint64_t, uint64_t>>& ranges) {
    v1::TensorRanges* part = request.add_parts();
    part->set_name(name);
    for (const auto& [begin, end] : ranges) {
      v1::ByteRange* range = part->add_ranges();
      range->set_begin(begin);
      range->set_end(end);
    }
  }

  TestServer server_{GetParam().Options()};
  const std::unique_ptr<TestClient> client_ = server_.NewClient();
};

INSTANTIATE_TEST_SUITE_P(Devices, ServiceReadTest, testing::ValuesIn(TestDevices()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ServiceReadTest, PullGivesTheVersionAskedFor) {
  EXPECT_EQ(client_->PullTensors("m", 1).value(), DataOf(VariedTensors(1)));
  EXPECT_EQ(client_->PullTensors("m", 2).value(), DataOf(VariedTensors(2)));
  EXPECT_EQ(client_->PullTensors("m", 0).value(), DataOf(VariedTensors(2))) << "0 is the current one";
}

TEST_P(ServiceReadTest, PullKeepsTheBucketLimitAndDescribesEachChunk) {
  const auto tensors = VariedTensors(2);
  for (const uint64_t bucket : {uint64_t{1}, uint64_t{7}, uint64_t{999}, uint64_t{1} << 40}) {
    const auto chunks = client_->Pull(PullOf(2, bucket));
    ASSERT_TRUE(chunks.ok()) << chunks.status();
    for (const v1::WeightChunk& chunk : *chunks) {
      EXPECT_LE(chunk.data().size(), std::min<uint64_t>(bucket, 1000)) << "the server's own limit is 1000";
      const auto tensor = std::find_if(tensors.begin(), tensors.end(),
                                       [&](const TestTensor& tensor) { return tensor.spec.name == chunk.name(); });
      ASSERT_NE(tensor, tensors.end());
      // The same message that a sender would have sent, with a checksum of what describes the data.
      v1::WeightChunk sent = ChunkOf(*tensor, chunk.offset(), chunk.data().size());
      sent.clear_data();
      sent.set_header_crc32c(ExtendCrc32c(0, sent.SerializeAsString()));
      sent.set_data(chunk.data());
      EXPECT_EQ(chunk.SerializeAsString(), sent.SerializeAsString());
      EXPECT_EQ(chunk.data(), ChunkOf(*tensor, chunk.offset(), chunk.data().size()).data());
      if (bucket == 1) break;
    }
  }
}

TEST_P(ServiceReadTest, AnEmptyTensorComesAsOneChunkWithoutData) {
  const auto chunks = client_->Pull(PullOf(2));
  ASSERT_TRUE(chunks.ok());
  int empty = 0;
  for (const v1::WeightChunk& chunk : *chunks) {
    if (chunk.name() != "nothing") continue;
    ++empty;
    EXPECT_TRUE(chunk.data().empty());
    EXPECT_TRUE(chunk.has_crc32c());
  }
  EXPECT_EQ(empty, 1);
}

TEST_P(ServiceReadTest, PullOfPartsGivesTheseAndNoMore) {
  v1::PullRequest request = PullOf(2, 100);
  AddPart(request, "\xc3\xbcml\xc3\xa4ut", {{10, 250}, {900, 1000}});
  AddPart(request, "bias", {});
  const auto chunks = client_->Pull(request);
  ASSERT_TRUE(chunks.ok()) << chunks.status();
  const auto tensors = VariedTensors(2);
  std::map<std::string, std::string> got;
  std::vector<uint64_t> offsets;
  for (const v1::WeightChunk& chunk : *chunks) {
    got[chunk.name()] += chunk.data();
    offsets.push_back(chunk.offset());
  }
  EXPECT_EQ(got.size(), 2u);
  EXPECT_EQ(got["bias"], tensors[1].data);
  EXPECT_EQ(got["\xc3\xbcml\xc3\xa4ut"], tensors[6].data.substr(10, 240) + tensors[6].data.substr(900, 100));
  EXPECT_THAT(offsets, testing::ElementsAre(10, 110, 210, 900, 0));
}

TEST_P(ServiceReadTest, PartsThatAreNotThereAreRefused) {
  v1::PullRequest request = PullOf(2);
  AddPart(request, "bias", {{0, 29}});
  ExpectError(client_->Pull(request).status(), StatusCode::kInvalidArgument, {"'bias' has 28 bytes", "29"});
  request = PullOf(2);
  AddPart(request, "bias", {{8, 4}});
  ExpectError(client_->Pull(request).status(), StatusCode::kInvalidArgument, {"bias"});
  request = PullOf(2);
  AddPart(request, "bias", {{0, 8}, {4, 12}});
  ExpectError(client_->Pull(request).status(), StatusCode::kInvalidArgument, {"bias"});
  request = PullOf(2);
  AddPart(request, "nobody", {});
  ExpectError(client_->Pull(request).status(), StatusCode::kNotFound, {"no tensor 'nobody'", "GetManifest"});
}

TEST_P(ServiceReadTest, WhatIsNotHeldIsNotFound) {
  ExpectError(client_->PullTensors("none").status(), StatusCode::kNotFound, {"no model 'none'", "ListModels"});
  ExpectError(client_->PullTensors("m", 9).status(), StatusCode::kNotFound, {"does not hold version 9", "1, 2"});
  ASSERT_TRUE(client_->Begin(BeginRequest("begun", 1, {})).ok());
  ExpectError(client_->PullTensors("begun").status(), StatusCode::kNotFound, {"'begun' has no current version"});
}

TEST_P(ServiceReadTest, APullInProgressOutlivesItsVersion) {
  const auto context = NewContext();
  const auto reader = client_->stub().Pull(context.get(), PullOf(1, 10));
  v1::WeightChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  std::map<std::string, std::string> got;
  ASSERT_TRUE(client_->PushVersion("m", 3, VariedTensors(3)).ok());
  ASSERT_TRUE(client_->PushVersion("m", 4, VariedTensors(4)).ok());
  ExpectError(client_->PullTensors("m", 1).status(), StatusCode::kNotFound, {"version 1"});
  do {
    got[chunk.name()] += chunk.data();
  } while (reader->Read(&chunk));
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(got, DataOf(VariedTensors(1)));
}

TEST_P(ServiceReadTest, AReaderThatGoesAwayLeavesTheServerServing) {
  for (int i = 0; i < 5; ++i) {
    const auto context = NewContext();
    const auto reader = client_->stub().Pull(context.get(), PullOf(2, 1));
    v1::WeightChunk chunk;
    ASSERT_TRUE(reader->Read(&chunk));
    context->TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_EQ(client_->PullTensors("m").value(), DataOf(VariedTensors(2)));
}

TEST_P(ServiceReadTest, TheManifestIsWhatWasBegun) {
  auto begin = BeginRequest("n", 5, VariedTensors(1));
  (*begin.mutable_metadata())["format"] = "pt";
  const auto begun = client_->Begin(begin);
  ASSERT_TRUE(client_->Push(ChunksOf(VariedTensors(1), 1000, begun->update_id())).ok());
  ASSERT_TRUE(client_->Commit("n", begun->update_id()).ok());
  v1::GetManifestRequest request;
  request.set_model("n");
  v1::Manifest manifest;
  ASSERT_TRUE(client_->stub().GetManifest(NewContext().get(), request, &manifest).ok());
  EXPECT_EQ(manifest.model(), "n");
  EXPECT_EQ(manifest.version(), 5u);
  EXPECT_EQ(manifest.total_bytes(), begun->total_bytes());
  EXPECT_EQ(manifest.metadata().at("format"), "pt");
  std::map<std::string, std::string> expected;
  std::map<std::string, std::string> got;
  for (const v1::TensorSpec& spec : begin.tensors()) expected[spec.name()] = spec.SerializeAsString();
  for (const v1::TensorSpec& spec : manifest.tensors()) got[spec.name()] = spec.SerializeAsString();
  EXPECT_EQ(got, expected);
  request.set_version(6);
  EXPECT_EQ(client_->stub().GetManifest(NewContext().get(), request, &manifest).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_P(ServiceReadTest, DigestsAreOfTheBytesWhereTheyLie) {
  v1::DigestModelRequest request;
  request.set_model("m");
  const auto digests = client_->Digest(request);
  ASSERT_TRUE(digests.ok()) << digests.status();
  const auto data = DataOf(VariedTensors(2));
  EXPECT_EQ(digests->size(), data.size());
  for (const v1::TensorDigest& digest : *digests) {
    const std::string& bytes = data.at(digest.spec().name());
    EXPECT_EQ(digest.version(), 2u);
    EXPECT_GT(digest.block_bytes(), bytes.size()) << "these tensors have one block at most";
    ASSERT_EQ(digest.crc32c_size(), bytes.empty() ? 0 : 1) << digest.spec().name();
    if (bytes.empty()) continue;
    EXPECT_EQ(digest.crc32c(0), ExtendCrc32c(0, bytes));
  }
}

TEST_P(ServiceReadTest, DigestsOfNamedTensorsOnly) {
  v1::DigestModelRequest request;
  request.set_model("m");
  request.set_version(1);
  request.add_names("scale");
  const auto digests = client_->Digest(request);
  ASSERT_TRUE(digests.ok());
  ASSERT_EQ(digests->size(), 1u);
  EXPECT_EQ(digests->at(0).crc32c(0), ExtendCrc32c(0, VariedTensors(1)[2].data));
  request.add_names("nobody");
  ExpectError(client_->Digest(request).status(), StatusCode::kNotFound, {"no tensor 'nobody'"});
}

TEST_P(ServiceReadTest, DigestsAreCutIntoBlocks) {
  TestServerOptions options = GetParam().Options();
  options.limits.bucket_bytes = 4 << 20;
  options.limits.staging_bytes = 12 << 20;
  TestServer server(options);
  const auto client = server.NewClient();
  const std::vector<TestTensor> tensors = {MakeTensor("large", DType::kU8, {(16 << 20) + 5}, 1)};
  ASSERT_TRUE(client->PushVersion("m", 1, tensors).ok());
  v1::DigestModelRequest request;
  request.set_model("m");
  const auto digests = client->Digest(request);
  ASSERT_TRUE(digests.ok()) << digests.status();
  ASSERT_EQ(digests->at(0).crc32c_size(), 2);
  const uint64_t block = digests->at(0).block_bytes();
  EXPECT_EQ(digests->at(0).crc32c(0), ExtendCrc32c(0, absl::string_view(tensors[0].data).substr(0, block)));
  EXPECT_EQ(digests->at(0).crc32c(1), ExtendCrc32c(0, absl::string_view(tensors[0].data).substr(block)));
}

}  // namespace
}  // namespace weightstream
