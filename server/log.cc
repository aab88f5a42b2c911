#include "server/log.h"

#include <grpc/support/log.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace weightstream {
namespace {

std::atomic<LogFormat> global_format{LogFormat::kText};

thread_local const LogTrace* current_trace = nullptr;

// Broken UTF-8 must not break the line.
std::string Quoted(const std::string& value) {
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool NeedsQuotes(const std::string& value) {
  if (value.empty()) return true;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= ' ' || byte >= 0x7f || c == '"' || c == '=' || c == '\\') return true;
  }
  return false;
}

void Log(spdlog::level::level_enum level, absl::string_view event, LogFields fields) {
  if (!spdlog::should_log(level)) return;
  spdlog::log(level, "{}", FormatLogLine(global_format.load(std::memory_order_relaxed), event, fields));
}

// In gRPC's stead, which writes lines of its own form. Any thread.
void LogForGrpc(gpr_log_func_args* said) {
  const absl::string_view path = said->file;
  const std::string where = absl::StrCat(path.substr(path.rfind('/') + 1), ":", said->line);
  if (said->severity == GPR_LOG_SEVERITY_ERROR) {
    LogWarning("grpc", {{"message", said->message}, {"at", where}});
  } else {
    LogDebug("grpc", {{"message", said->message}, {"at", where}});
  }
}

}  // namespace

absl::Status StartLogging(absl::string_view level, LogFormat format) {
  if (level != "debug" && level != "info" && level != "warning" && level != "error") {
    return absl::InvalidArgumentError(absl::StrCat("--log-level=", level, " is none of debug, info, warning, error"));
  }
  auto logger = std::make_shared<spdlog::logger>("weightstream", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(spdlog::level::from_str(std::string(level)));
  logger->flush_on(spdlog::level::debug);
  // The message of a JSON line is an object without its opening brace: time and level come first in both forms.
  if (format == LogFormat::kJson) {
    logger->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v)", spdlog::pattern_time_type::utc);
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  }
  global_format = format;
  spdlog::set_default_logger(std::move(logger));
  gpr_set_log_function(LogForGrpc);
  return absl::OkStatus();
}

LogTrace::LogTrace(absl::optional<TraceContext> trace) : trace_(std::move(trace)), before_(current_trace) {
  current_trace = this;
}

LogTrace::~LogTrace() { current_trace = before_; }

absl::optional<TraceContext> LogTrace::Current() {
  return current_trace == nullptr ? absl::nullopt : current_trace->trace_;
}

absl::optional<TraceContext> LogTrace::CurrentOr(const absl::optional<TraceContext>& other) {
  absl::optional<TraceContext> current = Current();
  return current.has_value() ? current : other;
}

std::string FormatLogLine(LogFormat format, absl::string_view event, LogFields fields) {
  const bool json = format == LogFormat::kJson;
  std::string line = json ? absl::StrCat("\"event\":", Quoted(std::string(event))) : std::string(event);
  const auto append = [&](absl::string_view key, const LogValue& value) {
    if (value.is_nothing()) return;
    const bool quoted = value.is_text() && (json || NeedsQuotes(value.text()));
    const std::string text = quoted ? Quoted(value.text()) : value.text();
    if (json) {
      absl::StrAppend(&line, ",", Quoted(std::string(key)), ":", text);
    } else {
      absl::StrAppend(&line, " ", key, "=", text);
    }
  };
  for (const auto& [key, value] : fields) append(key, value);
  if (const absl::optional<TraceContext> trace = LogTrace::Current(); trace.has_value()) {
    append("trace_id", trace->trace_id);
    append("span_id", trace->span_id);
  }
  if (json) line += '}';
  return line;
}

void LogDebug(absl::string_view event, LogFields fields) { Log(spdlog::level::debug, event, fields); }
void LogInfo(absl::string_view event, LogFields fields) { Log(spdlog::level::info, event, fields); }
void LogWarning(absl::string_view event, LogFields fields) { Log(spdlog::level::warn, event, fields); }
void LogError(absl::string_view event, LogFields fields) { Log(spdlog::level::err, event, fields); }

}  // namespace weightstream
