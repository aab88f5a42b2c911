// Bearer tokens: what one looks like, and its digest, which is all that a server keeps of it.
#ifndef WEIGHTSTREAM_SECURITY_TOKEN_H_
#define WEIGHTSTREAM_SECURITY_TOKEN_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightstream {

// SHA-256. Of one length, so that digests can be compared in constant time.
using TokenDigest = std::array<uint8_t, 32>;

TokenDigest DigestOf(absl::string_view token);

// In a time that does not tell how much of them is equal.
bool SameDigest(const TokenDigest& a, const TokenDigest& b);

// Of 64 hexadecimal digits; INVALID_ARGUMENT otherwise.
absl::StatusOr<TokenDigest> ParseDigest(absl::string_view hex);

// INVALID_ARGUMENT unless it is 16 to 4096 characters of A-Z a-z 0-9 - . _ ~ + / with = at the end (RFC 6750): what can
// travel in a header, and is not guessed. The error never quotes it.
absl::Status ValidateToken(absl::string_view token);

// The token that a client's file holds, without the space around it. `flag`, without dashes, named the file; errors are
// FAILED_PRECONDITION, name both and never quote the content.
absl::StatusOr<std::string> ReadToken(absl::string_view flag, const std::string& path);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SECURITY_TOKEN_H_
