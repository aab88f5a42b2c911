// Flags that several commands take, with one wording and one set of limits.
#ifndef WEIGHTSTREAM_CLIENT_COMMAND_COMMON_FLAGS_H_
#define WEIGHTSTREAM_CLIENT_COMMAND_COMMON_FLAGS_H_

#include <string>
#include <utility>
#include <vector>

#include "client/connection.h"
#include "client/security.h"
#include "flags/command_line.h"

namespace weightstream::command {

FlagSpec JsonFlag();
// The servers that a command is for, to be given to FindServers. `help` says what they are to it.
FlagSpec ServersFlag(const std::string& name, const std::string& help);
FlagSpec ModelFlag(bool required, const std::string& help);
FlagSpec VersionFlag(bool required, const std::string& help);
FlagSpec ConnectSecondsFlag();
// For commands that ask once and do not try again.
FlagSpec ConnectOnceSecondsFlag();
FlagSpec StallSecondsFlag();

// What every command that connects takes: --tls and what belongs to it, --auth-token-file.
std::vector<FlagSpec> WithSecurityFlags(std::vector<FlagSpec> flags);
// Which of those are of no use without which, beside what else the command says so of.
std::vector<std::pair<std::string, std::string>> WithSecurityNeeds(
    std::vector<std::pair<std::string, std::string>> needs = {});
Security SecurityFrom(const CommandLine& line);

// From --connect-seconds and --stall-seconds, as far as the command takes them.
TimeLimits TimeLimitsFrom(const CommandLine& line);

}  // namespace weightstream::command

#endif  // WEIGHTSTREAM_CLIENT_COMMAND_COMMON_FLAGS_H_
