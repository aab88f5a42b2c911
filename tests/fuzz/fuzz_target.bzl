"""One fuzz target in its two forms."""

def fuzz_target(name, srcs, deps, size = "small"):
    """Makes NAME_replay_test and NAME_fuzzer of sources that define LLVMFuzzerTestOneInput.

    Args:
      name: also the corpus' folder, corpus/NAME.
      srcs: the target's own sources.
      deps: what they need.
      size: of the replay test.
    """
    native.cc_library(
        name = name + "_target",
        testonly = True,
        srcs = srcs,
        deps = deps + [":fuzz_check"],
        # Only libFuzzer, in a library of the compiler's own, calls what is in it.
        alwayslink = True,
    )

    # Plain, with any compiler: every file of the corpus once.
    native.cc_test(
        name = name + "_replay_test",
        size = size,
        args = [native.package_name() + "/corpus/" + name],
        data = native.glob(["corpus/" + name + "/**"]),
        deps = [
            ":replay",
            ":" + name + "_target",
        ],
    )

    # Only with --config=fuzz, which brings the compiler that has libFuzzer.
    native.cc_binary(
        name = name + "_fuzzer",
        testonly = True,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = [":" + name + "_target"],
    )
