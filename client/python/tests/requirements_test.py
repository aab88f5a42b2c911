"""pip finds wheels for every Python that the package says it runs on, of what makes its stubs and of what runs them."""

from __future__ import annotations

import re
import tomllib
import unittest
from pathlib import Path
from typing import NamedTuple

from tools import python_cases

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

# The minor versions of Python 3 for which PyPI has a wheel of each grpcio-tools (`pip download --only-binary=:all:
# --python-version 3.N --no-deps grpcio-tools==VERSION` tells). 1.83.0 has none for 3.15.
WHEELS = {"1.62.3": range(7, 13), "1.67.1": range(8, 14), "1.75.1": range(9, 15), "1.84.2": range(10, 16)}
# What the stubs that it makes refuse to run without, as they say themselves: grpcio, protobuf.
STUBS_NEED = {
    "1.62.3": ("1.51", "4.25"),
    "1.67.1": ("1.67.1", "5.27.2"),
    "1.75.1": ("1.75.1", "6.31.1"),
    "1.84.2": ("1.84.2", "7.35.1"),
}


class Requirement(NamedTuple):
    name: str
    version: str
    minors: set[int]


def read_requirement(line: str) -> Requirement:
    """Of the forms that are in pyproject.toml; AssertionError for any other."""
    found = re.fullmatch(r"([\w-]+)(?:[>=]=([\d.]+))?(?:; (.+))?", line)
    assert found, line
    minors = set(range(7, 30))
    for bound in (found[3] or "python_version >= '3.7'").split(" and "):
        limit = re.fullmatch(r"python_version (>=|<) '3\.(\d+)'", bound)
        assert limit, line
        minors &= set(range(int(limit[2]), 30)) if limit[1] == ">=" else set(range(int(limit[2])))
    return Requirement(found[1], found[2] or "", minors)


class Requirements(unittest.TestCase):
    def setUp(self) -> None:
        read = tomllib.loads(PYPROJECT.read_text())
        bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", read["project"]["requires-python"])
        assert bounds
        self.minors = range(int(bounds[1]), int(bounds[2]))
        self.building = [read_requirement(line) for line in read["build-system"]["requires"]]
        self.running = [read_requirement(line) for line in read["project"]["dependencies"]]

    def version(self, requirements: list[Requirement], name: str, minor: int) -> str:
        """Of the one line that is for this Python."""
        found = [each.version for each in requirements if each.name == name and minor in each.minors]
        self.assertEqual(len(found), 1, f"lines of {name} for Python 3.{minor}")
        return found[0]

    def test_every_python_gets_the_oldest_tools_with_a_wheel_for_it(self) -> None:
        self.assertTrue(set(range(10, 16)) <= set(self.minors), "the Pythons that were supported before")
        for minor in self.minors:
            with self.subTest(f"3.{minor}"):
                fitting = [version for version, minors in WHEELS.items() if minor in minors]
                self.assertEqual(self.version(self.building, "grpcio-tools", minor), fitting[0])

    def test_what_runs_the_stubs_is_at_least_what_they_need(self) -> None:
        for minor in self.minors:
            with self.subTest(f"3.{minor}"):
                tools = self.version(self.building, "grpcio-tools", minor)
                found = tuple(self.version(self.running, name, minor) for name in ("grpcio", "protobuf"))
                self.assertEqual(found, STUBS_NEED[tools])


if __name__ == "__main__":
    python_cases.main()
