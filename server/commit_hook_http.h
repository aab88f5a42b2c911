// Tells an inference server over HTTP. It lies on the same host, mostly on loopback, so there is no TLS.
//
// An answer of 2xx is success, unless it is a JSON object whose "success" is false: SGLang answers so. Redirects are
// not followed: they are failures that name the status.
#ifndef WEIGHTSTREAM_SERVER_COMMIT_HOOK_HTTP_H_
#define WEIGHTSTREAM_SERVER_COMMIT_HOOK_HTTP_H_

#include <memory>

#include "server/commit_hook.h"

namespace weightstream {

// Sends options.requests; the first that fails ends the attempt. The timeout is for all of them together.
std::unique_ptr<CommitHook> NewHttpHook(const CommitHookOptions& options);

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SERVER_COMMIT_HOOK_HTTP_H_
