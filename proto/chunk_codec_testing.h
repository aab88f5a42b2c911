// What the codec's tests share: random chunks, messages cut into slices, and comparison with the generated code.
#ifndef WEIGHTSTREAM_PROTO_CHUNK_CODEC_TESTING_H_
#define WEIGHTSTREAM_PROTO_CHUNK_CODEC_TESTING_H_

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/support/byte_buffer.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "proto/chunk_codec.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {

using Random = std::mt19937_64;

// Keeps protobuf from logging each text that is not UTF-8, as long as the object lives.
class SilentProtobuf {
 public:
  SilentProtobuf() : previous_(google::protobuf::SetLogHandler(nullptr)) {}
  ~SilentProtobuf() { google::protobuf::SetLogHandler(previous_); }
  SilentProtobuf(const SilentProtobuf&) = delete;
  SilentProtobuf& operator=(const SilentProtobuf&) = delete;

 private:
  google::protobuf::LogHandler* previous_;
};

// A number below `limit`, which is at least 1.
uint64_t Below(Random& random, uint64_t limit);

// A chunk in which each field may be absent, default or at its extreme.
v1::WeightChunk RandomChunk(Random& random);
ChunkHeader HeaderOf(const v1::WeightChunk& chunk);

// The message in slices that end at the given ascending offsets; equal offsets give empty slices.
grpc::ByteBuffer Sliced(absl::string_view message, const std::vector<size_t>& borders);
grpc::ByteBuffer RandomlySliced(absl::string_view message, Random& random);
// All bytes of a buffer.
std::string Joined(const grpc::ByteBuffer& buffer);

std::string DataOf(const ReceivedChunk& chunk);
// Records a failure for each field in which they differ.
void ExpectSameChunk(const ReceivedChunk& received, const v1::WeightChunk& generated);
// The chunk holds nothing, as after a failed Parse.
void ExpectNoChunk(const ReceivedChunk& chunk);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_CHUNK_CODEC_TESTING_H_
