"""Clients from nothing but generated stubs: each language moves a checkpoint there and back, and sees every error."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any

import numpy as np

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_sharded
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import COMMAND_SECONDS, Process, Server, binary
from tools import python_cases

MIB = 1 << 20

# What a server answers to each mistake: the canonical code, and words that its message must hold.
MISTAKES = {
    "unknown dtype": ("INVALID_ARGUMENT", ("F31", "weight")),
    "unknown model": ("NOT_FOUND", ("nobody-knows",)),
    "over the bucket limit": ("RESOURCE_EXHAUSTED", ("weight", "1048576")),
    "wrong checksum": ("DATA_LOSS", ("weight", "CRC32C")),
    "commit before complete": ("FAILED_PRECONDITION", ("weight", "missing")),
    "superseded": ("ABORTED", ("superseded",)),
    "version taken": ("ALREADY_EXISTS", ("taken", "1")),
    "deadline": ("DEADLINE_EXCEEDED", ()),
    "cancelled": ("CANCELLED", ()),
    "unknown method": ("UNIMPLEMENTED", ()),
    "nobody there": ("UNAVAILABLE", ()),
}

# What a server with tokens answers to who may not do what he wants. The token is no secret, and is in no message.
TOKEN = "0123456789-reader-0123456789"
REFUSALS = {
    "no token": ("UNAUTHENTICATED", ("token",)),
    "unknown token": ("UNAUTHENTICATED", ("token",)),
    "role that does not suffice": ("PERMISSION_DENIED", ("BeginUpdate", "'refused'", "the role push")),
}


def camel_case(code: str) -> str:
    """As Go writes a code, but for the one that it spells in its own way."""
    return {"CANCELLED": "Canceled"}.get(code, "".join(word.capitalize() for word in code.split("_")))


class Interop(EndToEndTest):
    """The promises; each language below runs them all."""

    variable = ""

    @classmethod
    def code_name(cls, code: str) -> str:
        """The code as the language shows it."""
        return code

    def setUp(self) -> None:
        super().setUp()
        rng = np.random.default_rng(6)
        shapes = {"embed": ("BF16", (1500, 700)), "head": ("F32", (400, 1100)), "scale": ("F8_E4M3", (333,))}
        self.tensors = [random_tensor(rng, name, *shape) for name, shape in shapes.items()]
        self.tensors += [random_tensor(rng, f"layer.{i}.weight", "F16", (97, 2 * i)) for i in range(12)]
        self.tensors.append(random_tensor(rng, "steps", "I64", ()))
        self.checkpoint = write_sharded(self.folder / "checkpoint", self.tensors, 3)
        self.clients = 0

    def start(self, *arguments: str | Path | int) -> Process:
        self.clients += 1
        name = f"{self.variable.lower()}-{self.clients}"
        process = Process(
            name,
            [binary(self.variable), *map(str, arguments)],
            self.folder / f"{name}.log",
            self.folder / f"{name}.out",
        )
        self.addCleanup(process.kill)
        return process

    def result(self, process: Process) -> Any:
        self.assertEqual(process.wait(COMMAND_SECONDS), 0, process.log())
        return json.loads((self.folder / f"{process.name}.out").read_text())

    def assert_pulls_back(self, server: Server, model: str, version: int) -> None:
        out = self.folder / f"pulled-{version}"
        pulled = self.result(self.start("pull", server.address, model, version, out))["tensors"]
        data, at = out.read_bytes(), 0
        found = []
        for each in pulled:
            found.append(Tensor(each["name"], each["dtype"], tuple(each["shape"]), data[at : at + each["bytes"]]))
            at += each["bytes"]
        self.assertEqual(len(data), at)
        self.assertEqual(sorted(found, key=lambda t: t.name), sorted(self.tensors, key=lambda t: t.name))

    def test_a_sharded_checkpoint_goes_there_and_back(self) -> None:
        server = self.start_server("--bucket-mib=1")
        pushed = self.result(self.start("push", server.address, "model", 5, self.checkpoint))
        total = sum(len(tensor.data) for tensor in self.tensors)
        self.assertEqual(pushed["begins"], [{"missing_bytes": total, "resumed": False}])
        self.assertEqual(pushed["path"], str(server.data_dir / "model" / "5" / "model.safetensors"))
        self.assert_current(server, "model", self.tensors)
        self.assert_pulls_back(server, "model", 5)

    def test_a_cut_connection_is_resumed(self) -> None:
        server = self.start_server("--bucket-mib=0.25")
        proxy = self.start_proxy(server, 2 * MIB)
        client = self.start("push", proxy.address, "model", 1, self.checkpoint)
        self.await_landed(server, "model", MIB)
        self.assertGreaterEqual(proxy.cut(), 1)
        proxy.allow(None)
        begins = self.result(client)["begins"]
        # A line that is cut while the client connects again may cost it one more attempt, never the bytes.
        self.assertGreaterEqual(len(begins), 2)
        self.assertTrue(all(begin["resumed"] for begin in begins[1:]))
        self.assertLessEqual(begins[1]["missing_bytes"], begins[0]["missing_bytes"] - MIB)
        self.assert_current(server, "model", self.tensors)

    def test_a_killed_client_is_resumed_by_the_next(self) -> None:
        server = self.start_server("--bucket-mib=0.25")
        proxy = self.start_proxy(server, 2 * MIB)
        killed = self.start("push", proxy.address, "model", 1, self.checkpoint)
        self.await_landed(server, "model", MIB)
        killed.kill()
        begins = self.result(self.start("push", server.address, "model", 1, self.checkpoint))["begins"]
        self.assertTrue(begins[0]["resumed"])
        total = sum(len(tensor.data) for tensor in self.tensors)
        self.assertLessEqual(begins[0]["missing_bytes"], total - MIB)
        self.assert_current(server, "model", self.tensors)
        self.assert_pulls_back(server, "model", 1)

    def test_each_error_is_seen_as_the_language_shows_it(self) -> None:
        server = self.start_server("--bucket-mib=1")
        self.assert_seen(self.result(self.start("errors", server.address)), MISTAKES)

    def test_each_refusal_is_seen_as_the_language_shows_it(self) -> None:
        tokens = self.folder / "tokens"
        tokens.write_text(f"read * token:{TOKEN}\n")
        server = self.start_server(f"--auth-token-file={tokens}", "--allow-plaintext-tokens")
        self.assert_seen(self.result(self.start("refusals", server.address, TOKEN)), REFUSALS)

    def assert_seen(self, found: Any, mistakes: dict[str, tuple[str, tuple[str, ...]]]) -> None:
        self.assertEqual(sorted(found), sorted(mistakes))
        for mistake, (code, words) in mistakes.items():
            with self.subTest(mistake):
                self.assertNotIn(TOKEN, found[mistake]["message"])
                self.assertEqual(found[mistake]["code"], self.code_name(code), found[mistake]["message"])
                for word in words:
                    self.assertIn(word, found[mistake]["message"])


class Python(Interop):
    variable = "PYTHON_CLIENT"


class Go(Interop):
    variable = "GO_CLIENT"

    @classmethod
    def code_name(cls, code: str) -> str:
        return camel_case(code)


# Only the languages are tests.
def load_tests(loader: unittest.TestLoader, *_: Any) -> unittest.TestSuite:
    return unittest.TestSuite(loader.loadTestsFromTestCase(language) for language in (Python, Go))


if __name__ == "__main__":
    python_cases.main()
