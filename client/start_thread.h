// Starts a thread, or says why that failed, where std::thread would throw and end a trainer's process.
#ifndef WEIGHTSTREAM_CLIENT_START_THREAD_H_
#define WEIGHTSTREAM_CLIENT_START_THREAD_H_

#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weightstream {

// RESOURCE_EXHAUSTED where the system allows no more threads; `thread` is then as before.
template <typename Function>
absl::Status StartThread(std::thread& thread, Function function) {
  try {
    thread = std::thread(std::move(function));
    return absl::OkStatus();
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot start a thread: ", error.what(),
                                                     "; use fewer connections, or raise the limit of processes"));
  }
}

}  // namespace weightstream

#endif  // WEIGHTSTREAM_CLIENT_START_THREAD_H_
