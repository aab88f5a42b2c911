"""cuda_library: compiles .cu files with nvcc, and links the CUDA runtime statically. The driver is never linked: the
runtime looks for it when the program first calls it, so a program with CUDA in it starts on any machine."""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")
load("@cuda//:toolkit.bzl", "CUDA_AVAILABLE", "CUDA_HOME", "CUDA_VERSION")

# Machine code for A100 and its generation, and for H100 and H200; newer ones compile the last line's PTX at first use.
_CODE = [
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90,code=sm_90",
    "-gencode=arch=compute_90,code=compute_90",
]

# C++17: what these files include must be readable to nvcc's own front end. -Xfatbin: a quarter of the size.
_OPTIONS = [
    "-std=c++17",
    "-O3",
    "-Xfatbin=-compress-all",
    "-Xcompiler=-fPIC,-Wall,-Wextra,-Wno-unused-parameter",
    "-Werror=all-warnings",
]

def _compile(ctx, source, headers):
    object = ctx.actions.declare_file("_objs/%s/%s.o" % (ctx.label.name, source.basename))
    ctx.actions.run(
        executable = CUDA_HOME + "/bin/nvcc",
        arguments = _OPTIONS + _CODE + ["-I.", "-c", source.path, "-o", object.path],
        inputs = depset([source], transitive = [headers]),
        outputs = [object],
        # nvcc calls the system's g++. The version is here so that another toolkit compiles anew.
        env = {"PATH": "/usr/bin:/bin", "CUDA_VERSION": CUDA_VERSION},
        mnemonic = "CudaCompile",
        progress_message = "Compiling %s for sm_80, sm_90 and PTX" % source.short_path,
    )
    return object

def _cuda_library_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(ctx = ctx, cc_toolchain = toolchain)
    merged = cc_common.merge_cc_infos(cc_infos = [dep[CcInfo] for dep in ctx.attr.deps])
    headers = depset(ctx.files.hdrs + ctx.files.textual_hdrs, transitive = [merged.compilation_context.headers])
    objects = depset([_compile(ctx, source, headers) for source in ctx.files.srcs])
    linking, _ = cc_common.create_linking_context_from_compilation_outputs(
        actions = ctx.actions,
        name = ctx.label.name,
        feature_configuration = features,
        cc_toolchain = toolchain,
        compilation_outputs = cc_common.create_compilation_outputs(objects = objects, pic_objects = objects),
        linking_contexts = [merged.linking_context],
        user_link_flags = [CUDA_HOME + "/lib64/libcudart_static.a", "-ldl", "-lrt", "-lpthread"],
        disallow_dynamic_library = True,
    )
    context = cc_common.create_compilation_context(headers = headers)
    return [
        DefaultInfo(files = objects, data_runfiles = ctx.runfiles(transitive_files = objects)),
        CcInfo(compilation_context = context, linking_context = linking),
    ]

_cuda_library = rule(
    implementation = _cuda_library_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".cu"]),
        "hdrs": attr.label_list(allow_files = [".h"]),
        "textual_hdrs": attr.label_list(allow_files = [".h", ".cuh"]),
        "deps": attr.label_list(providers = [CcInfo]),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
    fragments = ["cpp"],
)

def cuda_library(name, **kwargs):
    """A cc_library of .cu files. Skipped where there is no toolkit.

    Args:
      name: of the target.
      **kwargs: srcs (.cu), hdrs, textual_hdrs (for srcs alone), deps (cc_library), visibility.
    """
    _cuda_library(
        name = name,
        target_compatible_with = [] if CUDA_AVAILABLE else ["@cuda//:present"],
        **kwargs
    )
