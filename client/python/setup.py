"""Generates the stubs from the service's .proto as the package is built; everything else is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

PROTO = Path("weightstream/v1/weightstream.proto")
HERE = Path(__file__).resolve().parent


def proto_root() -> Path:
    """Where the .proto lies: in the repository, or in a source distribution."""
    for root in (HERE / "proto", HERE.parent.parent / "proto"):
        if (root / PROTO).is_file():
            return root
    raise SystemExit(f"{PROTO} is neither below {HERE}/proto nor in the repository around it")


def generate(out: Path) -> None:
    from grpc_tools import protoc

    root = proto_root()
    well_known = Path(protoc.__file__).parent / "_proto"
    code = protoc.main(
        ["protoc", f"-I{root}", f"-I{well_known}"]
        + [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
        + [str(PROTO)]
    )
    if code != 0:
        raise SystemExit(f"protoc ended with {code}")
    (out / PROTO.parent / "__init__.py").write_text('"""Generated from the service\'s .proto."""\n')


class BuildWithStubs(build_py):
    def run(self) -> None:
        super().run()
        generate(HERE / "src" if self.editable_mode else Path(self.build_lib))


class SourceWithProto(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        target = Path(base_dir) / "proto" / PROTO
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(proto_root() / PROTO, target)


setup(cmdclass={"build_py": BuildWithStubs, "sdist": SourceWithProto})
