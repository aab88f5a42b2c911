// What `weightstream verify` says at its end. Pure; any thread.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_VERIFY_REPORT_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_VERIFY_REPORT_H_

#include <string>

#include "client/command/fleet_report.h"
#include "client/read.h"

namespace weightstream::command {

// A difference fails the command, with DATA_LOSS: it was found where the bytes should have been equal.
ServerReport ReportVerify(const std::string& server, const std::string& model, const VerifyResult& result);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_VERIFY_REPORT_H_
