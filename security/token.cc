#include "security/token.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "security/small_file.h"

namespace weightstream {
namespace {

// 16 characters of hexadecimal are 64 bits: too many to try over a network.
constexpr size_t kFewestCharacters = 16;
// Half of the headers that gRPC accepts.
constexpr size_t kMostCharacters = 4096;

bool IsTokenCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         absl::string_view("-._~+/").find(c) != absl::string_view::npos;
}

}  // namespace

TokenDigest DigestOf(absl::string_view token) {
  TokenDigest digest;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest.data());
  return digest;
}

bool SameDigest(const TokenDigest& a, const TokenDigest& b) { return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0; }

absl::StatusOr<TokenDigest> ParseDigest(absl::string_view hex) {
  TokenDigest digest;
  if (hex.size() != 2 * digest.size() || !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit)) {
    return absl::InvalidArgumentError("a SHA-256 digest has 64 hexadecimal digits, as sha256sum prints them");
  }
  const std::string bytes = absl::HexStringToBytes(hex);
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

absl::Status ValidateToken(absl::string_view token) {
  if (token.size() < kFewestCharacters || token.size() > kMostCharacters) {
    return absl::InvalidArgumentError(absl::StrCat("a token has ", kFewestCharacters, " to ", kMostCharacters,
                                                   " characters, not ", token.size(),
                                                   "; `openssl rand -hex 32` makes a good one"));
  }
  while (!token.empty() && token.back() == '=') token.remove_suffix(1);
  if (token.empty() || !std::all_of(token.begin(), token.end(), IsTokenCharacter)) {
    return absl::InvalidArgumentError(
        "a token has letters, digits and - . _ ~ + / only, with = at its end; `openssl rand -hex 32` makes a good one");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadToken(absl::string_view flag, const std::string& path) {
  const absl::StatusOr<std::string> text = ReadSmallFile(flag, path, "a file with the token");
  if (!text.ok()) return text.status();
  std::string token(absl::StripAsciiWhitespace(*text));
  if (const absl::Status valid = ValidateToken(token); !valid.ok()) return FileError(flag, path, valid.message());
  return token;
}

}  // namespace weightstream
