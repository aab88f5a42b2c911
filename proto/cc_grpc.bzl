"""Generates C++ messages and gRPC stubs with the system's protoc and grpc_cpp_plugin."""

def cc_grpc_library(name, src, **kwargs):
    """A cc_library of the messages and the service in one .proto file.

    Args:
      name: of the cc_library.
      src: the .proto file, relative to this package; include it as its path here with .pb.h or .grpc.pb.h.
      **kwargs: passed on to the cc_library.
    """
    stem = src[:-len(".proto")]
    sources = [stem + ".pb.cc", stem + ".grpc.pb.cc"]
    headers = [stem + ".pb.h", stem + ".grpc.pb.h"]
    native.genrule(
        name = name + "_generated",
        srcs = [src],
        outs = sources + headers,
        cmd = ("PATH=/usr/bin:/bin protoc -I " + native.package_name() +
               " --cpp_out=$(RULEDIR) --grpc_out=$(RULEDIR) " +
               "--plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin $(SRCS)"),
        message = "Generating C++ from " + src,
    )
    native.cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        copts = ["-Wno-unused-parameter"],
        strip_include_prefix = "/" + native.package_name(),
        deps = ["//third_party/system:grpc"],
        **kwargs
    )
