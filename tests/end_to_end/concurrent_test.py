"""Several senders at once: each version is one sender's, whole, and who loses is told ABORTED."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.checkpoints import fill_word, filled_tensor, write_filled
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Command, Outcome, Server
from tests.end_to_end.waiting import wait_until
from tools import python_cases

MIB = 1 << 20
# Three tensors that need many chunks, and one that needs part of one.
WORDS = (MIB, 3, 2 * MIB, MIB // 2)
TOTAL_BYTES = 8 * sum(WORDS)
# More than any buffer between the two processes, less than the model.
MID_PUSH_BYTES = 12 * MIB
# Senders that start within a moment of each other may meet before, in or after the other's commit.
RACES = 6


class Concurrent(EndToEndTest):
    def source(self, fill: int) -> Path:
        return write_filled(self.folder / f"fill-{fill}.safetensors", fill, WORDS)

    def start_push(self, path: Path, address: str, model: str, version: int) -> Command:
        flags = (f"--to={address}", f"--model={model}", f"--version={version}")
        # Small chunks: where few bytes may pass, some are whole all the same, over however many streams they come.
        return self.start_command("push", path, *flags, "--bucket-mib=0.25")

    def assert_filled(self, server: Server, model: str, fill: int) -> None:
        self.assert_current(server, model, [filled_tensor(f"filled.{i}", n, fill) for i, n in enumerate(WORDS)])

    def test_two_models_at_once(self) -> None:
        for device in ("host", "host-staged"):
            with self.subTest(device=device):
                server = self.start_server(f"--device={device}", data_dir=self.data_dir(device))
                pushes = [self.start_push(self.source(i), server.address, f"model-{i}", 1) for i in (1, 2)]
                for command in pushes:
                    self.assertEqual(command.outcome().code, 0, command.log())
                for i in (1, 2):
                    self.assert_filled(server, f"model-{i}", i)

    def supersede(self, server: Server, older: tuple[Path, int], newer: tuple[Path, int]) -> tuple[Outcome, Outcome]:
        """Pushes `newer` while `older` is in its middle, and returns how both ended."""
        proxy = self.start_proxy(server, MID_PUSH_BYTES)
        first = self.start_push(older[0], proxy.address, "model", older[1])
        self.await_landed(server, "model", MIB)
        second = self.start_push(newer[0], server.address, "model", newer[1])
        wait_until(lambda: "update_aborted" in server.log(), "the older update ends")
        # It hears of it with its next chunk.
        proxy.allow(None)
        return first.outcome(60), second.outcome(60)

    def test_a_newer_version_supersedes_one_in_flight(self) -> None:
        server = self.start_server()
        older, newer = self.supersede(server, (self.source(1), 5), (self.source(2), 6))
        self.assertEqual((older.code, newer.code), (1, 0), newer.stderr)
        self.assertIn("ABORTED", older.error)
        self.assertIn("superseded by an update to version 6", older.error)
        self.assert_filled(server, "model", 2)
        self.assert_no_partial_files(server)

    def test_an_older_version_does_not_disturb_a_newer_one_in_flight(self) -> None:
        server = self.start_server()
        proxy = self.start_proxy(server, MID_PUSH_BYTES)
        newer = self.start_push(self.source(2), proxy.address, "model", 6)
        self.await_landed(server, "model", MIB)
        older = self.push(self.source(1), server.address, "model", "--version=5", code=1)
        self.assertIn("ABORTED", older.error)
        proxy.allow(None)
        self.assertEqual(newer.outcome().code, 0, newer.log())
        self.assert_filled(server, "model", 2)

    def test_one_version_from_two_sources_is_never_a_mixture(self) -> None:
        server = self.start_server()
        first, second = self.supersede(server, (self.source(1), 1), (self.source(2), 1))
        self.assertEqual((first.code, second.code), (1, 0), second.stderr)
        self.assertIn("ABORTED", first.error)
        self.assertIn("superseded by another sender of version 1", first.error)
        self.assertEqual(second.json["servers"][0]["resumed_bytes"], 0)
        self.assert_filled(server, "model", 2)
        self.assert_no_partial_files(server)

    def test_races_for_one_version_have_one_winner(self) -> None:
        server = self.start_server("--keep-versions=2")
        for version in range(1, RACES + 1):
            fills = (10 * version + 1, 10 * version + 2)
            pushes = {fill: self.start_push(self.source(fill), server.address, "model", version) for fill in fills}
            outcomes = {fill: command.outcome() for fill, command in pushes.items()}
            winners = [fill for fill, outcome in outcomes.items() if outcome.code == 0]
            self.assertEqual(len(winners), 1, [outcome.stdout for outcome in outcomes.values()])
            (loser,) = set(fills) - set(winners)
            # Superseded while in flight; or begun only when the other had committed.
            self.assertRegex(outcomes[loser].error, "ABORTED|ALREADY_EXISTS")
            self.assert_filled(server, "model", winners[0])

    def test_races_of_two_versions_end_with_the_newer(self) -> None:
        server = self.start_server("--keep-versions=2")
        for version in range(2, 2 * RACES + 1, 2):
            lower, higher = (
                self.start_push(self.source(v), server.address, "model", v) for v in (version - 1, version)
            )
            self.assertEqual(higher.outcome().code, 0, higher.log())
            loser = lower.outcome()
            if loser.code != 0:
                # Superseded, refused as superseded, or begun after the newer one's commit.
                self.assertRegex(loser.error, "ABORTED|FAILED_PRECONDITION")
            self.assert_filled(server, "model", version)
        self.assertNotEqual(fill_word(1), fill_word(2))


if __name__ == "__main__":
    python_cases.main()
