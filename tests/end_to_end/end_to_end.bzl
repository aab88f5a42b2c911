"""A test of real processes: the server and the command as they are shipped."""

_SERVER = "//server:weightstream-server"
_COMMAND = "//client:weightstream"

def end_to_end_test(name, size = "medium", srcs = None, data = [], deps = [], env = {}, **kwargs):
    """A py_test that finds the binaries in its environment.

    Args:
      name: of the test.
      size: as of py_test.
      srcs: name.py unless given.
      data: more than the binaries.
      deps: more than the harness and what runs its cases.
      env: more than where the binaries are.
      **kwargs: passed on to py_test.
    """
    native.py_test(
        name = name,
        size = size,
        srcs = srcs or [name + ".py"],
        data = data + [_SERVER, _COMMAND],
        env = dict(
            env,
            WEIGHTSTREAM = "$(rootpath %s)" % _COMMAND,
            WEIGHTSTREAM_SERVER = "$(rootpath %s)" % _SERVER,
        ),
        # Without the __init__.py files of Bazel, which would hide the generated package `weightstream` behind the
        # workspace of the same name.
        legacy_create_init = 0,
        deps = deps + [
            "//tests/end_to_end:harness",
            "//tools:python_cases",
        ],
        **kwargs
    )
