// What the tests of pushing and reading share: a model with tensors of every awkward kind, and short time limits.
#ifndef WEIGHTSTREAM_CLIENT_PUSH_TESTING_H_
#define WEIGHTSTREAM_CLIENT_PUSH_TESTING_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/fake_server.h"
#include "client/push.h"
#include "client/weight_source.h"

namespace weightstream {

// Owns its bytes, each tensor in memory of its own, so that AddressSanitizer sees a read outside or after.
class TestModel {
 public:
  // Some empty, scalar and odd tensors, and large ones up to `bytes` in all. Equal seeds give equal models.
  explicit TestModel(uint64_t bytes, uint64_t seed = 1);

  std::unique_ptr<WeightSource> Source(const std::string& source_id = "test") const;
  // The names and sizes are there, and every byte is.
  void ExpectHeldBy(const FakeServer& server, const std::string& model = "m") const;

  const std::vector<TensorSpec>& specs() const { return specs_; }
  const std::string& data(size_t index) const { return data_[index]; }
  uint64_t total_bytes() const;

 private:
  void Add(std::string name, DType dtype, std::vector<uint64_t> shape);

  uint64_t state_;
  std::vector<TensorSpec> specs_;
  std::vector<std::string> data_;
};

// For the model "m": small chunks, so that there are many, and a server that does not answer is soon given up.
PushOptions TestOptions();
TimeLimits ShortLimits();

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_PUSH_TESTING_H_
