"""Several servers by one name, by a file or by a list: all of them, all or nothing, each with its outcome."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np

from tests.end_to_end import own_hosts
from tests.end_to_end.certificates import Ca
from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Outcome, Server, binary
from tools import python_cases

NAME = "weights.test"
OTHER = "other.test"
PORT = 7070
TO = f"dns:///{NAME}:{PORT}"
# In an order that is neither that of text nor that of the file.
HOSTS = ["127.0.0.10", "127.0.0.2", "127.0.0.9"]
IN_ORDER = [f"{host}:{PORT}" for host in ("127.0.0.2", "127.0.0.9", "127.0.0.10")]


_HOSTS_FOLDER = tempfile.TemporaryDirectory()
_UNAVAILABLE = own_hosts.enter(Path(_HOSTS_FOLDER.name))


@unittest.skipIf(_UNAVAILABLE != "", _UNAVAILABLE)
class FleetTest(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        # Twice: a name that has one address in two records has one server there.
        own_hosts.set_hosts(Path(_HOSTS_FOLDER.name), {NAME: [*HOSTS, HOSTS[0]], OTHER: [HOSTS[1]]})

    def tensors(self, seed: int = 1) -> list[Tensor]:
        rng = np.random.default_rng(seed)
        return [random_tensor(rng, f"tensor.{i}", "BF16", (500 + i, 64)) for i in range(4)]

    def source(self, seed: int = 1) -> Path:
        return write_safetensors(self.folder / f"source-{seed}.safetensors", self.tensors(seed))

    def start_fleet(self, *flags: str) -> list[Server]:
        """One at each address of the name, in the order in which the command names them."""
        return [
            self.start_server("--drain-seconds=0.1", *flags, listen=address, data_dir=self.data_dir(f"data-{number}"))
            for number, address in enumerate(IN_ORDER)
        ]

    def text(self, *words: str | Path, code: int) -> list[str]:
        """What a person reads, line by line."""
        command = [binary("WEIGHTSTREAM"), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout.splitlines()

    @staticmethod
    def by_server(outcome: Outcome) -> dict[str, dict[str, Any]]:
        return {server["server"]: server for server in outcome.json["servers"]}

    def assert_versions(self, servers: list[Server], expected: list[int]) -> None:
        """What each of them holds as the current version; 0 for a model that is not there, or has none."""
        current = []
        for server in servers:
            models = self.weightstream("status", f"--to={server.address}").json["servers"][0]["models"]
            current.append(models[0]["current_version"] if models else 0)
        self.assertEqual(current, expected)


class ByName(FleetTest):
    def test_every_command_reaches_every_address_of_a_name(self) -> None:
        servers = self.start_fleet()
        for version in (1, 2):
            pushed = self.push(self.source(version), TO, "model", f"--version={version}")
            self.assertEqual([server["server"] for server in pushed.json["servers"]], IN_ORDER)
            self.assertEqual(pushed.json["committed_servers"], 3)
        for server in servers:
            self.assert_current(server, "model", self.tensors(2))
        verified = self.weightstream("verify", self.source(2), f"--to={TO}", "--model=model")
        self.assertEqual(list(self.by_server(verified)), IN_ORDER)
        self.assertEqual([one["equal"] for one in verified.json["servers"]], [True] * 3)
        differs = self.weightstream("verify", self.source(1), f"--to={TO}", "--model=model", code=1)
        self.assertEqual([one["equal"] for one in differs.json["servers"]], [False] * 3)
        status = self.weightstream("status", f"--to={TO}", "--model=model")
        self.assertEqual(list(self.by_server(status)), IN_ORDER)
        rolled = self.weightstream("rollback", f"--to={TO}", "--model=model", "--version=1")
        self.assertEqual([one["previous_version"] for one in rolled.json["servers"]], [2] * 3)
        self.assert_versions(servers, [1, 1, 1])
        self.weightstream("watch", f"--to={TO}", "--model=model", "--until-version=1", "--timeout-seconds=60")

    def test_pull_reads_from_one_that_holds_the_version_though_others_do_not_or_are_dead(self) -> None:
        servers = self.start_fleet()
        self.push(self.source(1), servers[2].address, "model", "--version=5")
        servers[0].stop()
        out = self.folder / "out"
        pulled = self.weightstream("pull", f"--from={TO}", "--model=model", f"--out={out}")
        self.assertEqual((pulled.json["server"], pulled.json["version"]), (IN_ORDER[2], 5))
        file = servers[2].data_dir / "model" / "5" / "model.safetensors"
        self.assertEqual((out / "model.safetensors").read_bytes(), file.read_bytes())
        nobody = self.weightstream("pull", f"--from={TO}", "--model=model", "--version=6", f"--out={out}", code=1)
        for address in IN_ORDER:
            self.assertIn(address, nobody.json["error"]["message"])

    def test_a_name_without_an_address_is_named_with_the_remedy(self) -> None:
        for command in (["push", self.source()], ["status"], ["watch"], ["rollback", "--version=1"]):
            failed = self.weightstream(*command, "--to=dns:///nobody.test:7070", "--model=model", code=1)
            message = failed.json["error"]["message"]
            self.assertIn('dns:///nobody.test:7070: the name "nobody.test" has no address', message)
            self.assertIn("check the name and this host's resolver", message)

    def test_a_certificate_is_checked_against_the_name_and_not_the_address(self) -> None:
        ca = Ca(self.folder, "ours")
        pair = ca.sign("fleet", f"DNS:{NAME}")
        servers = self.start_fleet(f"--tls-cert={pair.certificate}", f"--tls-key={pair.key}")
        trust = f"--tls-ca={ca.certificate}"
        self.push(self.source(), TO, "model", trust)
        listed = self.folder / "fleet.txt"
        listed.write_text(f"# by its name\n{TO}\n")
        for to in (TO, f"@{listed}"):
            verified = self.weightstream("verify", self.source(), f"--to={to}", "--model=model", trust)
            self.assertEqual(list(self.by_server(verified)), IN_ORDER)
        for server in servers:
            self.assert_current(server, "model", self.tensors())
        # The address is not in the certificate, and neither is another name of the same server.
        for to in (IN_ORDER[0], f"dns:///{OTHER}:{PORT}"):
            host = IN_ORDER[0].partition(":")[0] if to == IN_ORDER[0] else OTHER
            refused = self.weightstream("status", f"--to={to}", trust, code=1)
            self.assertIn(f'the server\'s certificate is not for "{host}" but for DNS:{NAME}', refused.error)
            self.weightstream("status", f"--to={to}", trust, f"--tls-server-name={NAME}")
        self.weightstream("status", f"--to={TO}", trust, f"--tls-server-name={OTHER}", code=1)


class AllOrNothing(FleetTest):
    LISTS = ("list", "name", "file")

    def to(self, form: str) -> str:
        if form == "file":
            path = self.folder / "fleet.txt"
            path.write_text("".join(f"{address}\n" for address in IN_ORDER))
            return f"@{path}"
        return TO if form == "name" else ",".join(IN_ORDER)

    def test_one_dead_server_of_three_keeps_the_others_from_committing_and_each_is_named(self) -> None:
        servers = self.start_fleet()
        servers[1].stop()
        alive = [servers[0], servers[2]]
        for form in self.LISTS:
            words = (f"--to={self.to(form)}", "--model=model", "--connect-seconds=1")
            failed = self.weightstream("push", self.source(), *words, code=1)
            outcomes = self.by_server(failed)
            self.assertEqual(list(outcomes), IN_ORDER)
            codes = [outcome["error"]["code"] for outcome in outcomes.values()]
            self.assertEqual(codes, ["ABORTED", "UNAVAILABLE", "ABORTED"])
            self.assertIn(f"not committed: {IN_ORDER[1]} failed: ", outcomes[IN_ORDER[0]]["error"]["message"])
            self.assertEqual((failed.json["ok"], failed.json["committed_servers"]), (False, 0))
            self.assertTrue(failed.json["error"]["message"].startswith(f"{IN_ORDER[1]}: "), failed.json["error"])
            lines = self.text("push", self.source(), *words, code=1)
            self.assertEqual([line.partition(": ")[0] for line in lines], IN_ORDER)
            for line, code in zip(lines, codes, strict=True):
                self.assertIn(f": {code}: ", line)
            self.assert_versions(alive, [0, 0])
            for server in alive:
                self.assert_no_partial_files(server)

    def test_allow_partial_commits_where_everything_arrived_and_still_fails(self) -> None:
        servers = self.start_fleet()
        servers[1].stop()
        alive = [servers[0], servers[2]]
        words = (f"--to={TO}", "--model=model", "--connect-seconds=1", "--allow-partial")
        partial = self.weightstream("push", self.source(1), *words, code=1)
        self.assertEqual([one["ok"] for one in partial.json["servers"]], [True, False, True])
        self.assertEqual(partial.json["committed_servers"], 2)
        for server in alive:
            self.assert_current(server, "model", self.tensors(1))
        lines = self.text("push", self.source(2), *words, code=1)
        self.assertRegex(lines[0], rf"\A{IN_ORDER[0]}: version 2, ")
        self.assertRegex(lines[1], rf"\A{IN_ORDER[1]}: UNAVAILABLE: ")
        self.assertRegex(lines[2], rf"\A{IN_ORDER[2]}: version 2, ")
        self.assert_versions(alive, [2, 2])

    def test_a_rollback_changes_nothing_unless_every_server_holds_the_version(self) -> None:
        servers = self.start_fleet()
        self.push(self.source(1), ",".join(IN_ORDER[:2]), "model", "--version=1")
        self.push(self.source(2), TO, "model", "--version=2")
        words = ("rollback", f"--to={TO}", "--model=model", "--version=1")
        failed = self.weightstream(*words, code=1)
        self.assertEqual(failed.json["error"]["code"], "NOT_FOUND")
        self.assertTrue(failed.json["error"]["message"].startswith(f"{IN_ORDER[2]}: "), failed.json["error"])
        self.assertEqual([one["error"]["code"] for one in failed.json["servers"]], ["ABORTED", "ABORTED", "NOT_FOUND"])
        self.assert_versions(servers, [2, 2, 2])
        partial = self.weightstream(*words, "--allow-partial", code=1)
        self.assertEqual([one["ok"] for one in partial.json["servers"]], [True, True, False])
        self.assert_versions(servers, [1, 1, 2])


class Lookup(FleetTest):
    def test_every_command_looks_names_up_for_as_long_as_it_is_told(self) -> None:
        out = f"--out={self.folder / 'pulled'}"
        commands: list[tuple[str | Path, ...]] = [
            ("push", self.source(), "--model=model"),
            ("verify", self.source(), "--model=model"),
            ("pull", "--model=model", out),
            ("status",),
            ("watch",),
            ("rollback", "--model=model", "--version=1"),
        ]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(own_hosts.RESOLVER)
            for command, *words in commands:
                where = "from" if command == "pull" else "to"
                flags = (f"--{where}=dns:///nobody-answers.test:{PORT}", "--connect-seconds=1")
                with self.subTest(command):
                    failed = self.weightstream(str(command), *words, *flags, code=1)
                    self.assertEqual(failed.json["error"]["code"], "DEADLINE_EXCEEDED")
                    self.assertIn("was not resolved within 1s", failed.json["error"]["message"])


class ByFile(FleetTest):
    def test_a_file_that_is_not_right_is_named_with_its_line(self) -> None:
        path = self.folder / "fleet.txt"
        for text, words in (
            ("127.0.0.2:7070\n\nnot an address\n", f'@{path}:3: address "not an address" is not one'),
            ("# empty\n", f"@{path}: no server is named there"),
        ):
            path.write_text(text)
            self.assertIn(words, self.weightstream("status", f"--to=@{path}", code=1).json["error"]["message"])
        path.unlink()
        missing = self.weightstream("status", f"--to=@{path}", code=1)
        self.assertIn(f"@{path}: cannot be read: No such file or directory", missing.json["error"]["message"])


if __name__ == "__main__":
    python_cases.main()
