// Structured logs: one line an event, on stderr, as key=value pairs or (--log-format=json) as JSON.
#ifndef WEIGHTSTREAM_SERVER_LOG_H_
#define WEIGHTSTREAM_SERVER_LOG_H_

#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "proto/trace_context.h"

namespace weightstream {

// What a field says: text, a number or a truth, which JSON tells apart; or nothing, and then the field is left out.
class LogValue {
 public:
  LogValue(std::string text) : text_(std::move(text)), kind_(Kind::kText) {}
  LogValue(absl::string_view text) : LogValue(std::string(text)) {}
  LogValue(const char* text) : LogValue(std::string(text)) {}
  LogValue(bool truth) : text_(truth ? "true" : "false"), kind_(Kind::kBare) {}
  template <typename Number, std::enable_if_t<std::is_arithmetic<Number>::value, bool> = true>
  LogValue(Number number) : text_(absl::StrCat(number)), kind_(Kind::kBare) {}

  // Nothing for empty text.
  static LogValue IfAny(absl::string_view text) { return text.empty() ? LogValue() : LogValue(text); }

  bool is_nothing() const { return kind_ == Kind::kNothing; }
  bool is_text() const { return kind_ == Kind::kText; }
  const std::string& text() const { return text_; }

 private:
  enum class Kind { kNothing, kText, kBare };
  LogValue() : kind_(Kind::kNothing) {}

  std::string text_;
  Kind kind_;
};

// A key in snake_case and its value; the same thing has the same key on every line: model, version, update, peer,
// bytes, error. trace_id and span_id are LogTrace's.
using LogField = std::pair<absl::string_view, LogValue>;
using LogFields = std::initializer_list<LogField>;

enum class LogFormat { kText, kJson };

// Call once, before the first line. What gRPC has to say is an event `grpc` from then on, its errors as warnings: they
// are about one connection (a handshake that failed), not about the server. INVALID_ARGUMENT for a level that is none
// of debug, info, warning, error.
absl::Status StartLogging(absl::string_view level, LogFormat format);

// `event` is snake_case and names what happened: "update_begun". Any thread. Never in the way of a chunk.
void LogDebug(absl::string_view event, LogFields fields);
void LogInfo(absl::string_view event, LogFields fields);
void LogWarning(absl::string_view event, LogFields fields);
void LogError(absl::string_view event, LogFields fields);

// The lines of this thread carry this trace as trace_id and span_id, behind their own fields, for as long as this
// lives; those of no trace where it is nothing. The one before holds again after it. A call has one for its thread.
class LogTrace {
 public:
  explicit LogTrace(absl::optional<TraceContext> trace);
  ~LogTrace();
  LogTrace(const LogTrace&) = delete;
  LogTrace& operator=(const LogTrace&) = delete;

  // This thread's; nothing where there is none.
  static absl::optional<TraceContext> Current();
  // The same, or else that of what the thread works on.
  static absl::optional<TraceContext> CurrentOr(const absl::optional<TraceContext>& other);

 private:
  const absl::optional<TraceContext> trace_;
  const LogTrace* const before_;
};

// The line without time and level, for tests: `update_begun model=m note="two words"` or {"event":"update_begun",...}.
std::string FormatLogLine(LogFormat format, absl::string_view event, LogFields fields);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_LOG_H_
