"""A binary that needs next to nothing of the system: for container images and hosts without our packages.

It links the very objects of the ordinary build, so it costs a link and no compilation. Each `-lNAME` that the
libraries in //third_party/system ask for becomes the archive libNAME.a: gRPC, protobuf, Abseil and what they alone use.
glibc stays shared, since it loads parts of itself at run time; so do ISA-L, cpp-httplib and prometheus-cpp, of which
Debian has no archives, and what those load in turn anyway: OpenSSL, zlib and the C++ library, which would otherwise be
there twice. The run path is $ORIGIN: in a folder of their own, the binary and those libraries go side by side.
"""

# For target_compatible_with of static binaries: a sanitizer brings a shared library of its own.
UNSANITIZED = select({
    "//third_party/system:asan": ["//third_party/system:no_platform"],
    "//third_party/system:tsan": ["//third_party/system:no_platform"],
    "//conditions:default": [],
})

# Shared although everything else is not.
_SHARED = [
    "isal",
    "cpp-httplib",
    "prometheus-cpp-core",
    "ssl",
    "crypto",
    "z",
    "stdc++",
    "pthread",
    "dl",
    "rt",
    "m",
    "c",
]

# What gRPC's and protobuf's archives need beyond what //third_party/system names, from `pkg-config --static`.
_BEYOND = ["-l:libre2.a", "-l:libcares.a", "-l:libatomic.a", "-lssl", "-lcrypto", "-lz"]

def _archives(flag):
    """The form of a link option that takes archives: a list, since a library may be asked for among other options."""
    if flag.startswith("-l") and flag[2:] not in _SHARED:
        return ["-l:lib%s.a" % flag[2:]]
    if flag.startswith("-Wl,") and ",-l" in flag:
        # A library that must not be dropped as unused; of an archive, that means all of it.
        names = [part[2:] for part in flag.split(",") if part.startswith("-l")]
        return ["-Wl,--whole-archive"] + ["-l:lib%s.a" % name for name in names] + ["-Wl,--no-whole-archive"]
    return [flag]

def _static_binary_impl(ctx):
    inputs = []
    flags = []
    for linker_input in depset(transitive = [
        dep[CcInfo].linking_context.linker_inputs
        for dep in ctx.attr.deps
    ], order = "topological").to_list():
        inputs.append(cc_common.create_linker_input(
            owner = linker_input.owner,
            libraries = depset(linker_input.libraries),
            additional_inputs = depset(linker_input.additional_inputs),
        ))
        for flag in linker_input.user_link_flags:
            flags.extend(_archives(flag))
    flags = (["-Wl,--start-group"] + flags + _BEYOND + ["-Wl,--end-group"] +
             ["-Wl,--as-needed", "-Wl,--gc-sections", "-Wl,--strip-all", "-Wl,-rpath,$ORIGIN"])

    toolchain = ctx.attr._cc_toolchain[cc_common.CcToolchainInfo]
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    linked = cc_common.link(
        name = ctx.label.name,
        actions = ctx.actions,
        feature_configuration = features,
        cc_toolchain = toolchain,
        linking_contexts = [cc_common.create_linking_context(linker_inputs = depset(inputs, order = "topological"))],
        user_link_flags = flags,
    )
    return [DefaultInfo(
        executable = linked.executable,
        files = depset([linked.executable]),
        runfiles = ctx.runfiles([linked.executable]),
    )]

static_binary = rule(
    implementation = _static_binary_impl,
    doc = "An executable from libraries, one of which has main().",
    attrs = {
        "deps": attr.label_list(
            doc = "cc_library targets; the one with main() needs alwayslink.",
            providers = [CcInfo],
        ),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    executable = True,
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
