// What `weightstream push` says at its end. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_PUSH_REPORT_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_PUSH_REPORT_H_

#include <string>

#include "client/command/report.h"
#include "client/push.h"

namespace weightstream::command {

// A line a server: version, bytes, seconds, rate, or why it failed; in JSON one object a server.
Report ReportPush(const std::string& model, const PushResult& result);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_PUSH_REPORT_H_
