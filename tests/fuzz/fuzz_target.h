// The one function that every fuzz target defines, under the name and with the signature that libFuzzer calls.
#ifndef WEIGHTSTREAM_TESTS_FUZZ_FUZZ_TARGET_H_
#define WEIGHTSTREAM_TESTS_FUZZ_FUZZ_TARGET_H_

#include <cstddef>
#include <cstdint>

// Gives one input to what is tested. Ends the process if a promise is broken; returns 0. Called again and again in one
// process, from one thread: what it does depends on its input alone.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#endif  // WEIGHTSTREAM_TESTS_FUZZ_FUZZ_TARGET_H_
