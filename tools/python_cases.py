"""Runs a module's unittest cases so that each of them is seen: by Bazel, and so by tools/test_summary.py.

    from tools import python_cases

    if __name__ == "__main__":
        python_cases.main()

Where a test says nothing, Bazel writes a test.xml of one case, in which one that was skipped has passed. main() instead
writes every case, failure and skip to the file that Bazel names in XML_OUTPUT_FILE. Run by hand, without that variable,
it is unittest.main(). The command line is unittest's either way, and so is the exit code: 0 if nothing failed.
"""

from __future__ import annotations

import io
import os
import unittest
from pathlib import Path
from typing import Any

import xmlrunner

# Where Bazel expects a test's cases.
XML_PATH = os.environ.get("XML_OUTPUT_FILE")


class XmlRunner(xmlrunner.XMLTestRunner):
    """Writes the file when the last case has ended: of a process that dies before, Bazel says itself that it did."""

    def __init__(self, **options: Any) -> None:
        self.document = io.BytesIO()
        super().__init__(output=self.document, outsuffix="", **options)

    def run(self, test: unittest.TestSuite) -> unittest.TestResult:
        result = super().run(test)
        assert XML_PATH is not None
        Path(XML_PATH).write_bytes(self.document.getvalue())
        return result


def main() -> None:
    """Runs the cases of the program's main module, and exits."""
    unittest.main(testRunner=XmlRunner if XML_PATH else None)
