#include "proto/status.h"

#include <string>

#include "absl/strings/string_view.h"

namespace weightstream {
namespace {

constexpr int kMaxCode = static_cast<int>(grpc::StatusCode::UNAUTHENTICATED);

// What the gRPC protocol's percent-encoding makes of a byte.
size_t EncodedBytes(char c) { return c >= 0x20 && c <= 0x7e && c != '%' ? 1 : 3; }

bool ContinuesCharacter(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

absl::string_view Cut(absl::string_view message) {
  size_t encoded_bytes = 0;
  for (size_t i = 0; i < message.size(); ++i) {
    encoded_bytes += EncodedBytes(message[i]);
    if (encoded_bytes <= kMaxStatusMessageBytes) continue;
    // A UTF-8 character has at most three continuation bytes; more of them are no text, and cut anywhere.
    size_t end = i;
    while (end > 0 && i - end < 3 && ContinuesCharacter(message[end])) --end;
    return message.substr(0, end);
  }
  return message;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(Cut(status.message())));
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = static_cast<int>(status.error_code());
  const bool canonical = code > 0 && code <= kMaxCode;
  return absl::Status(canonical ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      status.error_message());
}

}  // namespace weightstream
