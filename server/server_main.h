// The program weightstream-server, to be called from main().
#ifndef WEIGHTSTREAM_SERVER_SERVER_MAIN_H_
#define WEIGHTSTREAM_SERVER_SERVER_MAIN_H_

namespace weightstream {

// Serves until SIGINT or SIGTERM, and drains; with --exit-on-device-failure also until the device fails. Returns the
// exit code: 0 done, 1 failed, 2 bad usage, the reason on stderr. Call once, before any other thread starts: it blocks
// signals and sets up the allocator.
int ServerMain(int argc, char** argv);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_SERVER_MAIN_H_
