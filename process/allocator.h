// The C library's allocator, set up for processes that receive large messages.
#ifndef WEIGHTSTREAM_PROCESS_ALLOCATOR_H_
#define WEIGHTSTREAM_PROCESS_ALLOCATOR_H_

namespace weightstream {

// Makes glibc keep and reuse the pages of freed receive buffers instead of returning them to the kernel and faulting
// them in again for each message: the largest single lever on the receive rate (measured: 1.4 to 2.5 GB/s, minor faults
// to a tenth). It costs retained memory. Call first in main(), before other threads start; it concerns the whole
// process, so libraries must not call it. Does nothing where the C library is another one.
void TuneAllocatorForStreaming();

}  // namespace weightstream

#endif  // WEIGHTSTREAM_PROCESS_ALLOCATOR_H_
