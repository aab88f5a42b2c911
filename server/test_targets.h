// A server whose GPU is a fake, and memory of an inference server beside it: what tests of registered targets start
// from.
#ifndef WEIGHTSTREAM_SERVER_TEST_TARGETS_H_
#define WEIGHTSTREAM_SERVER_TEST_TARGETS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/test_registration.h"
#include "server/test_server.h"
#include "server/test_update.h"

namespace weightstream {

class TargetsTest : public testing::Test {
 protected:
  TestServerOptions Options() {
    TestServerOptions options;
    options.limits.staging_bytes = 3000;
    options.cuda = cuda_;
    return options;
  }

  // "w" of BF16 and "b" of U8.
  static std::vector<TestTensor> Tensors(uint64_t seed) {
    return {MakeTensor("w", DType::kBF16, {30, 50}, seed), MakeTensor("b", DType::kU8, {777}, seed + 100)};
  }
  static std::vector<v1::TargetTensor> WholeTargets() {
    return {TargetOf("w", "BF16", {30, 50}, 64), TargetOf("b", "U8", {777}, 5000)};
  }

  v1::BeginUpdateResponse Begin(uint64_t version) {
    const auto begun = client_->Begin(BeginRequest("m", version, Tensors(version)));
    EXPECT_TRUE(begun.ok()) << begun.status();
    return begun.value_or(v1::BeginUpdateResponse());
  }

  // A chunk of version 1 that has come to the GPU's stream, where it stays until HoldStreams(false).
  std::unique_ptr<grpc::ClientWriter<v1::WeightChunk>> StartACopyThatIsHeld(const std::string& update_id,
                                                                            grpc::ClientContext& context,
                                                                            v1::PushResponse& response) {
    return StartACopyThatIsHeld(*client_, update_id, context, response);
  }
  // The same, of another server.
  std::unique_ptr<grpc::ClientWriter<v1::WeightChunk>> StartACopyThatIsHeld(TestClient& client,
                                                                            const std::string& update_id,
                                                                            grpc::ClientContext& context,
                                                                            v1::PushResponse& response) {
    cuda_->HoldStreams(true);
    const uint64_t copies = cuda_->calls()["CopyToDevice"];
    auto stream = client.stub().Push(&context, &response);
    EXPECT_TRUE(stream->Write(ChunkOf(Tensors(1)[0], 0, 1000, update_id)));
    EXPECT_TRUE(WaitFor([&] { return cuda_->calls()["CopyToDevice"] > copies; }));
    return stream;
  }

  v1::Model State() { return client_->GetModel("m").value(); }

  void ExpectState(v1::WeightsState state, uint64_t overwritten_version, uint64_t unfinished_version) {
    const v1::Model model = State();
    EXPECT_EQ(model.weights_state(), state) << model.ShortDebugString();
    EXPECT_EQ(model.overwritten_version(), overwritten_version);
    EXPECT_EQ(model.unfinished_version(), unfinished_version);
  }

  std::string BytesOf(const std::vector<TestTensor>& tensors, const std::string& name) {
    return DataOf(tensors).at(name);
  }

  const std::shared_ptr<FakeCudaRuntime> cuda_ = std::make_shared<FakeCudaRuntime>();
  ForeignMemory memory_{*cuda_, 10'000};
  TestServer server_{Options()};
  const std::unique_ptr<TestClient> client_ = server_.NewClient();
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_TEST_TARGETS_H_
