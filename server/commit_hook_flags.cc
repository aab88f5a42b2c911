#include "server/commit_hook_flags.h"

#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "tensor/spec.h"

namespace weightstream {
namespace {

constexpr uint64_t kMostTimeoutSeconds = 86400;
constexpr uint64_t kMostAttempts = 1000;
constexpr int kHttpPort = 80;

constexpr absl::string_view kDefaultBody =
    R"({"model": "{model}", "version": "{version}", "path": "{path}", "folder": "{folder}"})";

struct PresetRequest {
  absl::string_view path;
  absl::string_view body;
};

// As SGLang documents it (docs/hooks.md names the pages and versions). The version comes back in each answer's
// meta_info.
constexpr PresetRequest kSglang[] = {
    {"/update_weights_from_disk", R"({"model_path": "{folder}", "weight_version": "{version}"})"}};

// As vLLM documents it. What its prefix cache holds was computed with the weights before.
constexpr PresetRequest kVllm[] = {
    {"/collective_rpc", R"({"method": "reload_weights", "kwargs": {"weights_path": "{folder}"}})"},
    {"/reset_prefix_cache", ""}};

absl::Status Invalid(absl::string_view flag, absl::string_view value, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, "=", value, " ", what));
}

absl::Status CheckPreset(absl::string_view text) {
  if (text == "sglang" || text == "vllm") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is none of sglang, vllm"));
}

// Sets host and port; returns the path, which is empty or begins with a slash.
absl::StatusOr<std::string> ParseUrl(const std::string& url, CommitHookOptions& options) {
  constexpr absl::string_view kFlag = "on-commit";
  absl::string_view rest = url;
  if (absl::StartsWith(rest, "https://")) {
    return Invalid(kFlag, url,
                   "is https, and only http is spoken: the inference server is beside this one, on loopback. To reach "
                   "another host, run a program of your own by --on-commit-exec");
  }
  if (!absl::ConsumePrefix(&rest, "http://")) return Invalid(kFlag, url, "does not begin with http://");
  for (const char c : rest) {
    if (c <= ' ' || c == '#' || c == '@' || c == '\x7f') {
      return Invalid(kFlag, url, "has a space, a control character, # or @, which do not belong there");
    }
  }
  const size_t slash = std::min(rest.find_first_of("/?"), rest.size());
  absl::string_view host = rest.substr(0, slash);
  options.port = kHttpPort;
  const size_t colon = host.rfind(':');
  if (colon != absl::string_view::npos && host.find(']', colon) == absl::string_view::npos) {
    if (!absl::SimpleAtoi(host.substr(colon + 1), &options.port) || options.port < 1 || options.port > 65535) {
      return Invalid(kFlag, url, "has a port that is none of 1 to 65535");
    }
    host = host.substr(0, colon);
  }
  if (absl::ConsumePrefix(&host, "[") && !absl::ConsumeSuffix(&host, "]")) host = "";
  if (host.empty()) return Invalid(kFlag, url, "names no host; write http://127.0.0.1:PORT/PATH");
  options.host = std::string(host);
  return rest.substr(slash, 1) == "?" ? absl::StrCat("/", rest.substr(slash)) : std::string(rest.substr(slash));
}

absl::Status AddRequest(std::string path, absl::string_view body, CommitHookOptions& options) {
  CommitHookRequest request{std::move(path), {}};
  if (!body.empty()) {
    absl::StatusOr<CommitHookBody> parsed = CommitHookBody::Parse(body);
    if (!parsed.ok()) return Invalid("on-commit-body", body, parsed.status().message());
    request.body = *std::move(parsed);
  }
  options.requests.push_back(std::move(request));
  return absl::OkStatus();
}

absl::Status SetRequests(const CommandLine& line, CommitHookOptions& options) {
  const std::string url = line.Text("on-commit");
  absl::StatusOr<std::string> path = ParseUrl(url, options);
  if (!path.ok()) return path.status();
  if (!line.Has("on-commit-preset")) {
    return AddRequest(path->empty() ? "/" : *path,
                      line.Has("on-commit-body") ? line.Text("on-commit-body") : kDefaultBody, options);
  }
  const std::string preset = line.Text("on-commit-preset");
  if (!path->empty() && *path != "/") {
    return Invalid("on-commit", url,
                   absl::StrCat("has a path, and --on-commit-preset=", preset,
                                " knows the path; leave it out, or say --on-commit-body instead"));
  }
  const absl::Span<const PresetRequest> requests = preset == "vllm" ? absl::MakeConstSpan(kVllm) : kSglang;
  for (const PresetRequest& request : requests) {
    if (absl::Status added = AddRequest(std::string(request.path), request.body, options); !added.ok()) return added;
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<FlagSpec> CommitHookFlags() {
  return {
      {.name = "on-commit",
       .value = "URL",
       .help = "POST to this http:// URL once a version has become current, so that the inference server loads it; "
               "repeated until it is answered with success. Default: nobody is told."},
      {.name = "on-commit-body",
       .value = "JSON",
       .help = "What is posted; in its strings {model}, {version}, {path} (the version's file) and {folder} (where it "
               "lies) are filled in. Default: an object of these four."},
      {.name = "on-commit-preset",
       .value = "SERVER",
       .help = "Path and body as sglang or vllm want them; --on-commit is then http://HOST:PORT.",
       .check = CheckPreset},
      {.name = "on-commit-exec",
       .value = "PROGRAM",
       .help = "Instead of a POST, run this program, without a shell or arguments; WEIGHTSTREAM_MODEL, _VERSION, _PATH "
               "and _FOLDER are in its environment, and code 0 is success."},
      {.name = "on-commit-model",
       .value = "MODEL",
       .help = "Tell of this model's versions alone: an inference server loads whatever it is told of. Default: of "
               "every model's.",
       .check = ValidateModelName},
      {.name = "on-commit-timeout-seconds",
       .kind = FlagKind::kDecimal,
       .value = "N",
       .help = "How long one attempt may take; then it is cut, a program killed. Default 300.",
       .most = kMostTimeoutSeconds},
      {.name = "on-commit-attempts",
       .kind = FlagKind::kNumber,
       .value = "N",
       .help = "Most attempts for one version, with growing waits between. Default 8.",
       .least = 1,
       .most = kMostAttempts},
  };
}

absl::StatusOr<CommitHookOptions> CommitHookOptionsFrom(const CommandLine& line) {
  CommitHookOptions options;
  if (line.Has("on-commit")) {
    if (absl::Status set = SetRequests(line, options); !set.ok()) return set;
  }
  options.program = line.Text("on-commit-exec");
  if (!options.program.empty()) {
    if (!absl::StrContains(options.program, '/')) {
      return Invalid("on-commit-exec", options.program, "is no path; PATH is not searched, write /where/it/is");
    }
    if (access(options.program.c_str(), X_OK) != 0) {
      return Invalid("on-commit-exec", options.program, "is not there, or not executable by the server's user");
    }
  }
  for (const char* flag : {"on-commit-model", "on-commit-timeout-seconds", "on-commit-attempts"}) {
    if (line.Has(flag) && !options.enabled()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, " is of no use without --on-commit or --on-commit-exec"));
    }
  }
  options.model = line.Text("on-commit-model");
  options.timeout = absl::Seconds(line.Decimal("on-commit-timeout-seconds", absl::ToDoubleSeconds(options.timeout)));
  options.attempts = static_cast<int>(line.Number("on-commit-attempts", options.attempts));
  return options;
}

}  // namespace weightstream
