// OpenSSL at the end of a process.
#ifndef WEIGHTSTREAM_PROCESS_OPENSSL_AT_EXIT_H_
#define WEIGHTSTREAM_PROCESS_OPENSSL_AT_EXIT_H_

namespace weightstream {

// OpenSSL would free its tables and locks as the process exits, while gRPC's threads, which nothing ends before, may be
// in a handshake: the process then crashed or hung after it had done its work. With this it leaves them to the system.
// Call first in main, before anything uses TLS.
void KeepOpensslAtExit();

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROCESS_OPENSSL_AT_EXIT_H_
