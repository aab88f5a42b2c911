"""Processes are killed (SIGKILL) at any moment: readers see whole versions, and what had landed is not sent again."""

from __future__ import annotations

import enum
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

from tests.end_to_end.checkpoints import filled_tensor, write_filled
from tests.end_to_end.current_reader import Reader
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Command, Server
from tests.end_to_end.waiting import DeadlineError, let_pass, wait_until
from tools import python_cases

MIB = 1 << 20
WORDS = (MIB, 3, 2 * MIB, MIB // 2, 1)
TOTAL_BYTES = 8 * sum(WORDS)
# More than any buffer between the two processes, less than the model.
MID_PUSH_BYTES = 16 * MIB
# What a push adds to the bytes of its model on the line, frames and calls, and what a cut loses in a proxy: far less.
OVERHEAD_BYTES = MIB

SEED = int(os.environ.get("WEIGHTSTREAM_TEST_SEED", "2026"))
KILLS = 10

# By how much the span of random moments changes after a kill that came too late, or too early.
AIM = {"current": 0.8, "not begun": 1.25}

# How far a commit can be once it has begun.
IN_COMMIT = ("intent written", "renamed, not current", "current")


class Moment(enum.Enum):
    """When a server is killed while a version is pushed to it."""

    # Whatever is going on then.
    RANDOM = enum.auto()
    # From the first step of its commit on.
    COMMIT = enum.auto()
    # In mid push, for certain: the line holds the rest back.
    PUSH = enum.auto()


class Killed(EndToEndTest):
    def source(self, version: int, name: str = "") -> Path:
        return write_filled(self.folder / f"{name or version}.safetensors", version, WORDS)

    def start_push(self, path: Path, address: str, *flags: str) -> Command:
        # Small chunks: where few bytes may pass, some are whole all the same, over however many streams they come.
        return self.start_command("push", path, f"--to={address}", "--model=model", "--bucket-mib=0.25", *flags)

    def assert_filled(self, server: Server, version: int) -> None:
        self.assert_current(server, "model", [filled_tensor(f"filled.{i}", n, version) for i, n in enumerate(WORDS)])

    # ---- The client ------------------------------------------------------------------------------------------------

    def kill_in_mid_push(self, server: Server, path: Path, *flags: str) -> None:
        proxy = self.start_proxy(server, MID_PUSH_BYTES)
        command = self.start_push(path, proxy.address, *flags)
        self.await_landed(server, "model", 4 * MIB)
        command.kill()
        proxy.close()
        server.await_quiet()

    def check_resume(self, *server_flags: str) -> None:
        server = self.start_server(*server_flags, data_dir=self.data_dir(server_flags[0]))
        source = self.source(1)
        self.kill_in_mid_push(server, source)
        resumed = self.push(source, server.address, "model").json["servers"][0]
        self.assertGreaterEqual(resumed["resumed_bytes"], 4 * MIB)
        self.assertLess(resumed["sent_bytes"], TOTAL_BYTES)
        self.assertEqual(resumed["resumed_bytes"] + resumed["sent_bytes"], TOTAL_BYTES)
        self.assert_filled(server, 1)

    def test_a_new_process_sends_only_what_a_killed_one_had_not_landed(self) -> None:
        self.check_resume("--device=host")

    def test_the_same_through_staging(self) -> None:
        self.check_resume("--device=host-staged")

    def test_other_bytes_are_never_mixed_into_what_a_killed_process_left(self) -> None:
        server = self.start_server()
        self.kill_in_mid_push(server, self.source(1, "same-name"), "--version=1")
        other = self.source(2, "same-name")
        outcome = self.push(other, server.address, "model", "--version=1").json["servers"][0]
        self.assertEqual((outcome["resumed_bytes"], outcome["sent_bytes"]), (0, TOTAL_BYTES))
        self.assert_filled(server, 2)

    def test_a_cut_connection_costs_the_chunks_in_flight_only(self) -> None:
        server = self.start_server()
        proxy = self.start_proxy(server, MID_PUSH_BYTES)
        command = self.start_push(self.source(1), proxy.address)
        self.await_landed(server, "model", 4 * MIB)
        wait_until(lambda: proxy.passed_bytes == MID_PUSH_BYTES, "all that may pass has passed")
        landed = self.landed_at_rest(server)
        self.assertGreater(proxy.cut(), 0)
        proxy.allow(None)
        outcome = command.outcome()
        self.assertEqual(outcome.code, 0, outcome.stderr)
        sent = outcome.json["servers"][0]
        self.assertGreaterEqual(sent["retries"], 1)
        self.assertEqual(sent["resumed_bytes"], 0)
        missing = [int(m) for m in re.findall(r" update_resumed .* missing_bytes=(\d+)", server.log())]
        self.assertLessEqual(missing[0], TOTAL_BYTES - landed)
        # Counted on the line, by neither side: the rest, and nothing of what had landed.
        self.assertLessEqual(proxy.passed_bytes - MID_PUSH_BYTES, TOTAL_BYTES - landed + OVERHEAD_BYTES)
        # By the client's own count: once before the cut, as far as it got, and then what was missing.
        self.assertLessEqual(sent["sent_bytes"], TOTAL_BYTES + missing[0])
        self.assert_filled(server, 1)

    def landed_at_rest(self, server: Server) -> int:
        """What has landed of the update, once that does not change: where nothing passes, all that has passed."""
        seen = [-1]

        def rests() -> bool:
            outcome = self.weightstream("status", f"--to={server.address}", "--model=model")
            (model,) = outcome.json["servers"][0]["models"]
            seen.append(sum(u["landed_bytes"] for u in model["updates"] if u["state"] == "receiving"))
            return seen[-1] == seen[-2]

        wait_until(rests, "what has passed lands", poll=0.1)
        return seen[-1]

    # ---- The server ------------------------------------------------------------------------------------------------

    def state_of_commit(self, model: Path, version: int) -> str:
        """How far a commit got, from the names alone."""
        current = str((model / "current").readlink())
        if current == str(version):
            return "current"
        if (model / str(version)).exists():
            return "renamed, not current"
        if (model / ".next").is_symlink():
            return "intent written"
        return "receiving" if any(model.glob(".incoming-*")) else "not begun"

    def await_commit(self, rng: random.Random, model: Path, version: int) -> None:
        """Spins (the moments are microseconds long) until a commit has begun, then some steps longer."""
        wanted = (model / ".next", model / str(version))
        deadline = time.monotonic() + 60
        while not any(os.path.lexists(path) for path in wanted):
            if time.monotonic() > deadline:
                raise DeadlineError("no commit within 60 seconds")
        # Up to a fifth of a millisecond on: between the steps that follow.
        later = time.monotonic() + rng.uniform(0, 0.0002)
        while time.monotonic() < later:
            pass

    def check_kill(self, moment: Moment, state: str, retries: int) -> None:
        """A kill that came before or after all that it is to interrupt tests nothing."""
        if moment is Moment.PUSH:
            self.assertEqual(state, "receiving")
            self.assertGreaterEqual(retries, 1)
        elif moment is Moment.COMMIT:
            self.assertIn(state, IN_COMMIT)

    def check_states(self, kills: Moment, states: Counter[str]) -> None:
        """Kills of which none fell into the push tested nothing. Into what else they fell depends on the machine."""
        if kills is Moment.RANDOM:
            self.assertGreaterEqual(states["receiving"], 1, states)

    def kill_servers(self, kills: Moment, on_disk: bool) -> None:
        """Kills a server that many times, and once more, anywhere among these, in mid push."""
        rng = random.Random(SEED)
        print(f"WEIGHTSTREAM_TEST_SEED={SEED}")
        moments = [kills] * KILLS
        moments.insert(rng.randint(0, KILLS), Moment.PUSH)
        data_dir = self.data_dir(on_disk=on_disk)
        address = self.reserve_address()
        server = self.start_server(data_dir=data_dir, listen=address)
        began = time.monotonic()
        # Through a proxy, as the others: what is received more slowly is interrupted more often.
        first = self.start_push(self.source(1), self.start_proxy(server).address, "--version=1").outcome()
        self.assertEqual(first.code, 0, first.stderr)
        span_seconds = 1.2 * (time.monotonic() - began)
        reader = Reader(data_dir / "model")
        self.addCleanup(reader.kill)
        reader.await_first()
        states: Counter[str] = Counter()  # Of the kills at moments of the kind asked for.
        for version, moment in enumerate(moments, start=2):
            proxy = self.start_proxy(server, MID_PUSH_BYTES if moment is Moment.PUSH else None)
            command = self.start_push(self.source(version), proxy.address, f"--version={version}")
            if moment is Moment.PUSH:
                self.await_landed(server, "model", 4 * MIB)
            elif moment is Moment.COMMIT:
                self.await_commit(rng, data_dir / "model", version)
            else:
                let_pass(rng.uniform(0, span_seconds))
            server.kill()
            state = self.state_of_commit(data_dir / "model", version)
            # The one that was held in mid push is no proof of the others.
            if moment is kills:
                states[state] += 1
                # How long a push takes changes with what else the machine does: later ones are aimed better.
                span_seconds *= AIM.get(state, 1.0)
            proxy.allow(None)
            server = self.start_server(data_dir=data_dir, listen=address)
            # The same client lives through it, and knows in the end what became of its version.
            outcome = command.outcome()
            self.assertEqual(outcome.code, 0, f"version {version}: {outcome.stdout}\n{outcome.stderr}")
            self.check_kill(moment, state, outcome.json["servers"][0]["retries"])
            self.assert_filled(server, version)
            (self.folder / f"{version}.safetensors").unlink()
        result = reader.result()
        print(f"killed when {dict(states)}; the reader: {result}")
        self.check_states(kills, states)
        self.assertIsNone(result["error"])
        self.assertEqual(result["versions"][-1], 1 + len(moments))

    def test_the_server_at_random_moments_in_shared_memory(self) -> None:
        self.kill_servers(Moment.RANDOM, on_disk=False)

    def test_the_server_at_random_moments_on_disk(self) -> None:
        self.kill_servers(Moment.RANDOM, on_disk=True)

    def test_the_server_in_commits_in_shared_memory(self) -> None:
        self.kill_servers(Moment.COMMIT, on_disk=False)

    def test_the_server_in_commits_on_disk(self) -> None:
        self.kill_servers(Moment.COMMIT, on_disk=True)

    def test_a_restart_removes_what_was_half_received_and_serves_what_was_committed(self) -> None:
        server = self.start_server()
        self.push(self.source(1), server.address, "model")
        proxy = self.start_proxy(server, MID_PUSH_BYTES)
        command = self.start_push(self.source(2), proxy.address)
        self.await_landed(server, "model", 4 * MIB)
        server.kill()
        command.signal(signal.SIGKILL)
        self.assertEqual(len(list((server.data_dir / "model").glob(".incoming-*"))), 1)
        server = self.start_server()
        self.assert_no_partial_files(server)
        self.assert_filled(server, 1)
        status = self.weightstream("status", f"--to={server.address}", "--model=model")
        (model,) = status.json["servers"][0]["models"]
        self.assertEqual((model["current_version"], model["updates"]), (1, []))


if __name__ == "__main__":
    python_cases.main()
