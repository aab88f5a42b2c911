// W3C Trace Context (levels 1 and 2): the identity of a trace, as it travels in the metadata "traceparent" of a call.
//
//   traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//                version, trace id, id of the span that calls, flags
//
// OpenTelemetry's instrumentation of gRPC sends it; so does the client of this repository. `tracestate`, which belongs
// to the vendors of tracing systems, is not carried on. Pure but for the random numbers; any thread.
#ifndef WEIGHTSTREAM_PROTO_TRACE_CONTEXT_H_
#define WEIGHTSTREAM_PROTO_TRACE_CONTEXT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace weightstream {

// The key in gRPC's metadata, and, in capitals, the environment variable of OpenTelemetry for command lines.
inline constexpr char kTraceparent[] = "traceparent";
inline constexpr char kTraceparentVariable[] = "TRACEPARENT";

struct TraceContext {
  // 32 and 16 digits of lower-case hexadecimal, not all 0.
  std::string trace_id;
  std::string span_id;
  // The bits that are defined: 1 is "sampled", 2 "the trace id is random".
  uint8_t flags = 0;
};

// Nothing where the specification says that a value is to be ignored: version ff, other lengths, upper case, ids of all
// 0. A version that is newer than 00 may have more behind the flags, which is left out, as are flags that have no
// meaning yet.
absl::optional<TraceContext> ParseTraceparent(absl::string_view text);

// In version 00.
std::string FormatTraceparent(const TraceContext& context);

// The same trace, and a span of its own, with a random id.
TraceContext ChildOf(const TraceContext& parent);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_TRACE_CONTEXT_H_
