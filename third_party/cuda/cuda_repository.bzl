"""Finds the CUDA toolkit of this machine, once, before anything is built.

@cuda//:toolkit.bzl then holds CUDA_AVAILABLE, CUDA_HOME and CUDA_VERSION, and @cuda//:present is a constraint that no
platform has: a target that is compatible_with it is one that Bazel skips. CUDA_HOME in the environment (or with
--repo_env=CUDA_HOME=...) names the toolkit's folder, or is "none" for a build without CUDA; otherwise it is
/usr/local/cuda, if there is one.
"""

_DEFAULT_HOME = "/usr/local/cuda"

# The first with C++17 in device code under GCC 12, and with sm_90.
_LEAST_VERSION = (12, 0)

def _version(context, home):
    """The release that nvcc tells, as text ("13.0"), or None where there is no nvcc that runs."""
    if not context.path(home + "/bin/nvcc").exists:
        return None
    result = context.execute([home + "/bin/nvcc", "--version"])
    parts = result.stdout.split("release ")
    return parts[1].split(",")[0] if result.return_code == 0 and len(parts) > 1 else None

def _find(context):
    """A pair: the version, or None; and where the toolkit is, or why it is not used."""
    asked = context.os.environ.get("CUDA_HOME", "")
    if asked == "none":
        return None, "CUDA_HOME is \"none\""
    home = asked or _DEFAULT_HOME
    version = _version(context, home)
    if version == None:
        why = "there is no CUDA toolkit at %s (no bin/nvcc that runs)" % home
        return None, why + (", which CUDA_HOME names" if asked else "")
    if tuple([int(part) for part in version.split(".")[:2]]) < _LEAST_VERSION:
        least = "%d.%d" % _LEAST_VERSION
        return None, "the CUDA toolkit at %s is release %s, and %s is the least that works" % (home, version, least)
    if not context.path(home + "/lib64/libcudart_static.a").exists:
        return None, "the CUDA toolkit at %s has no lib64/libcudart_static.a" % home
    return version, home

def _cuda_repository_impl(context):
    version, home = _find(context)
    if version == None:
        # Bazel shows it once, when it looks for the toolkit anew.
        # buildifier: disable=print
        print("Building without CUDA: %s. Its device code is skipped, and --device=cuda:N will say so." % home)
    context.file("toolkit.bzl", "CUDA_AVAILABLE = %r\nCUDA_HOME = %r\nCUDA_VERSION = %r\n" % (
        version != None,
        home if version != None else "",
        version or "",
    ))
    context.file("BUILD.bazel", "\n".join([
        "package(default_visibility = [\"//visibility:public\"])",
        "constraint_setting(name = \"toolkit\")",
        "constraint_value(name = \"present\", constraint_setting = \":toolkit\")",
        "",
    ]))

cuda_repository = repository_rule(
    implementation = _cuda_repository_impl,
    environ = ["CUDA_HOME"],
    local = True,
    doc = "See the top of this file.",
)
