#include "client/command/common_flags.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/fleet.h"
#include "tensor/spec.h"

namespace weightstream::command {
namespace {

// No wait is for ever: a day is as good as for ever to a person, and not to a script.
constexpr uint64_t kMostSeconds = 86400;

}  // namespace

FlagSpec JsonFlag() {
  return {.name = "json",
          .kind = FlagKind::kSwitch,
          .help =
              "Prints one JSON object on stdout and nothing else; progress and messages go to stderr. An error is "
              "{\"ok\": false, \"error\": {\"code\", \"message\"}}."};
}

FlagSpec ServersFlag(const std::string& name, const std::string& help) {
  return {.name = name,
          .kind = FlagKind::kList,
          .value = "ADDR[,ADDR...]",
          .help = absl::StrCat(help,
                               " HOST:PORT or unix:PATH each; dns:///NAME:PORT for a server at each address of the "
                               "name, as of a headless service; or @FILE, with one of these a line and comments after "
                               "#."),
          .required = true,
          .check = ValidateFleetItem};
}

FlagSpec ModelFlag(bool required, const std::string& help) {
  return {.name = "model",
          .kind = FlagKind::kText,
          .value = "NAME",
          .help = help,
          .required = required,
          .check = ValidateModelName};
}

FlagSpec VersionFlag(bool required, const std::string& help) {
  return {.name = "version", .kind = FlagKind::kNumber, .value = "N", .help = help, .required = required, .least = 1};
}

FlagSpec ConnectSecondsFlag() {
  return {.name = "connect-seconds",
          .kind = FlagKind::kNumber,
          .value = "N",
          .help = "How long to look up names, and to try to reach a server, at first and after a loss. Default 25.",
          .least = 1,
          .most = kMostSeconds};
}

FlagSpec ConnectOnceSecondsFlag() {
  FlagSpec flag = ConnectSecondsFlag();
  flag.help =
      "How long looking up names may take, and reaching a server that does not answer. One that refuses is an error at "
      "once. Default 25.";
  return flag;
}

FlagSpec StallSecondsFlag() {
  return {.name = "stall-seconds",
          .kind = FlagKind::kNumber,
          .value = "N",
          .help = "A server that takes or sends no byte for that long counts as dead. Default 30.",
          .least = 1,
          .most = kMostSeconds};
}

std::vector<FlagSpec> WithSecurityFlags(std::vector<FlagSpec> flags) {
  const auto add = [&flags](const char* name, const char* value, const char* help) {
    flags.push_back({.name = name, .kind = FlagKind::kText, .value = value, .help = help});
  };
  flags.push_back({.name = "tls",
                   .kind = FlagKind::kSwitch,
                   .help = "Connects with TLS, and trusts the system's CAs. The other --tls flags mean it, too."});
  add("tls-ca", "FILE", "The CA that signed the server's certificate: PEM.");
  add("tls-cert", "FILE", "This client's certificate, for a server that asks for one: PEM.");
  add("tls-key", "FILE", "Its private key: PEM, without a passphrase.");
  add("tls-server-name", "NAME", "The name in the server's certificate, where it is not the one in the address.");
  add("auth-token-file", "FILE", "A file with the token that the server wants.");
  flags.push_back({.name = "allow-plaintext-token",
                   .kind = FlagKind::kSwitch,
                   .help = "Sends the token without TLS over TCP, where others may read it."});
  return flags;
}

std::vector<std::pair<std::string, std::string>> WithSecurityNeeds(
    std::vector<std::pair<std::string, std::string>> needs) {
  needs.emplace_back("tls-cert", "tls-key");
  needs.emplace_back("tls-key", "tls-cert");
  needs.emplace_back("allow-plaintext-token", "auth-token-file");
  return needs;
}

Security SecurityFrom(const CommandLine& line) {
  Security security;
  security.tls = line.Switch("tls");
  security.tls_ca = line.Text("tls-ca");
  security.tls_cert = line.Text("tls-cert");
  security.tls_key = line.Text("tls-key");
  security.tls_server_name = line.Text("tls-server-name");
  security.auth_token_file = line.Text("auth-token-file");
  security.allow_plaintext_token = line.Switch("allow-plaintext-token");
  return security;
}

TimeLimits TimeLimitsFrom(const CommandLine& line) {
  TimeLimits limits;
  limits.connect = absl::Seconds(line.Number("connect-seconds", absl::ToInt64Seconds(limits.connect)));
  limits.stall = absl::Seconds(line.Number("stall-seconds", absl::ToInt64Seconds(limits.stall)));
  return limits;
}

}  // namespace weightstream::command
