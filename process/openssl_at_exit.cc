#include "process/openssl_at_exit.h"

#include <openssl/crypto.h>

namespace weightstream {

void KeepOpensslAtExit() { OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr); }

}  // namespace weightstream
