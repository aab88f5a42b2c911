// Hosts that are this machine by their name.
#ifndef WEIGHTSTREAM_PROTO_LOOPBACK_H_
#define WEIGHTSTREAM_PROTO_LOOPBACK_H_

#include <string>

namespace weightstream {

// 127.0.0.0/8, ::1 (without brackets) or the name localhost. Other names are not looked up: what they mean may change.
// Pure.
bool IsLoopbackHost(const std::string& host);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROTO_LOOPBACK_H_
