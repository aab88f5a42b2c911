"""What to do after each failure, and for how long, is what the C++ client does: both are held to one table."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any

import grpc
from weightstream import Limits, limits
from weightstream.errors import from_rpc_error
from weightstream.retries import CallKind, remedy_for

from tools import python_cases

RULES = json.loads((Path(__file__).parents[2] / "retry_rules.json").read_text())
KINDS = {kind.name.lower(): kind for kind in CallKind}


class Failed(grpc.RpcError):  # type: ignore[misc, unused-ignore]
    """A call as grpcio has it once it failed."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


class Rules(unittest.TestCase):
    def test_every_code_has_its_remedy_for_every_call(self) -> None:
        codes = set()
        for rule in RULES["remedies"]:
            code = grpc.StatusCode[rule["code"]]
            codes.add(code)
            error = from_rpc_error(Failed(code, rule["message"]), "")
            for name, kind in KINDS.items():
                with self.subTest(rule["code"], message=rule["message"], call=name):
                    self.assertEqual(remedy_for(kind, error).name.lower(), rule[name])
        self.assertEqual(codes, set(grpc.StatusCode) - {grpc.StatusCode.OK})

    def test_limits_are_those_of_every_client(self) -> None:
        chosen = Limits()
        ours: dict[str, Any] = {
            "max_attempts": limits.MOST_ATTEMPTS,
            "first_backoff_seconds": limits.FIRST_BACKOFF_SECONDS,
            "most_backoff_seconds": limits.MOST_BACKOFF_SECONDS,
            "abort_seconds": limits.ABORT_SECONDS,
        }
        for name in ("connect", "call", "stall", "per_gib", "keepalive_time", "keepalive_timeout"):
            ours[f"{name}_seconds"] = getattr(chosen, name)
        self.assertEqual(ours, RULES["limits"])


if __name__ == "__main__":
    python_cases.main()
