"""Whatever happens to one side, the other ends in time, names the cause, and leaves nothing behind."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from weightstream.v1 import weightstream_pb2 as ws

from tests.end_to_end.checkpoints import random_tensor, write_filled, write_sparse
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Command, Outcome, Server
from tests.end_to_end.safetensors_file import SafetensorsFile
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import Wire, chunk_of, refused
from tools import python_cases

MIB = 1 << 20
WORDS = (4 * MIB,)
MID_PUSH_BYTES = 12 * MIB
LARGE_BYTES = 2048 * MIB
COMPARED_AT_ONCE = 64 * MIB

# The promise: the death of either side is an error at the other within that long.
PROMISED_SECONDS = 30
# What a slow machine may add to it, before we have seen it.
SLOW_SECONDS = 5
# What the tests below ask for instead, so as not to take that long each.
SHORT_SECONDS = 2
CLIENT_FLAGS = (f"--stall-seconds={SHORT_SECONDS}", f"--connect-seconds={SHORT_SECONDS}")
# Updates that were left in their middle need not be waited for at the test's end.
NO_DRAIN = "--drain-seconds=1"
# So slow that a push of LARGE_BYTES takes half a minute, and is in its middle whenever a busy machine lets us look.
SLOW = "--max-peer-mib-per-second=64"
SERVER_FLAGS = (SLOW, f"--idle-update-seconds={SHORT_SECONDS}", f"--keepalive-seconds={SHORT_SECONDS}")


class NeitherHangs(EndToEndTest):
    def hold_in_mid_push(self, server: Server, *flags: str) -> Command:
        """A push that stands still in its middle, on a line that is alive."""
        proxy = self.start_proxy(server, MID_PUSH_BYTES)
        source = write_filled(self.folder / "source.safetensors", 1, WORDS)
        # Small chunks: where few bytes may pass, some are whole all the same, over however many streams they come.
        to = f"--to={proxy.address}"
        command = self.start_command("push", source, to, "--model=model", "--bucket-mib=0.25", *flags)
        self.await_landed(server, "model", MIB)
        return command

    def direct_push(self, server: Server, *flags: str) -> Command:
        """A push without a proxy of a model so large that a server which is SLOW has it under way for half a minute."""
        source = write_sparse(self.folder / "source.safetensors", "large", "U8", (LARGE_BYTES,), {0: b"not sparse"})
        return self.start_command("push", source, f"--to={server.address}", "--model=model", *flags)

    def assert_update_ended(self, server: Server, words: str) -> None:
        def reason() -> str:
            status = self.weightstream("status", f"--to={server.address}", "--model=model")
            (update,) = status.json["servers"][0]["models"][0]["updates"]
            return update["reason"] if update["state"] == "aborted" else ""

        self.assertIn(words, wait_until(reason, "the update ends", PROMISED_SECONDS, poll=0.1))
        self.assert_no_partial_files(server)
        server.await_quiet()

    def check_sender_killed(self, device: str) -> None:
        server = self.start_server(f"--device={device}", *SERVER_FLAGS)
        descriptors = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
        command = self.direct_push(server)
        self.await_landed(server, "model")
        command.kill()
        self.assert_update_ended(server, "no chunk for")
        after = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
        # gRPC may keep an event descriptor or two for later; what an update holds is gone.
        self.assertLessEqual(after, descriptors + 4)

    def test_the_sender_is_killed(self) -> None:
        self.check_sender_killed("host")

    def test_the_sender_is_killed_while_the_server_stages(self) -> None:
        self.check_sender_killed("host-staged")

    def test_the_sender_is_stopped_and_answers_no_ping(self) -> None:
        server = self.start_server(*SERVER_FLAGS)
        command = self.direct_push(server)
        self.await_landed(server, "model")
        command.signal(signal.SIGSTOP)
        self.assert_update_ended(server, "no chunk for")
        # Woken up, it learns what happened: it is told the cause, or has lost its connections and begins again.
        command.signal(signal.SIGCONT)
        outcome = command.outcome()
        print(f"woken up, it ended with {outcome.code}: {outcome.error}")
        if outcome.code == 0:
            self.assert_committed_whole(server)
        else:
            self.assertEqual(outcome.code, 1)
            self.assertRegex(outcome.error, "ABORTED: .*no chunk for")

    def assert_committed_whole(self, server: Server) -> None:
        """What was pushed directly is current, every byte of it."""
        with (
            self.open_version(server.data_dir, "model") as held,
            SafetensorsFile(self.folder / "source.safetensors") as sent,
        ):
            for at in range(0, LARGE_BYTES, COMPARED_AT_ONCE):
                part = slice(at, at + COMPARED_AT_ONCE)
                equal = bytes(held.data("large")[part]) == bytes(sent.data("large")[part])
                self.assertTrue(equal, f"a difference after byte {at}")

    def test_the_sender_is_stopped_with_default_limits(self) -> None:
        # Its update would be kept ten minutes for it; its streams end as soon as its silence is noticed.
        server = self.start_server(NO_DRAIN, SLOW)
        command = self.direct_push(server)
        self.await_landed(server, "model")
        with Wire(server.address) as wire:
            (update,) = wire.model("model").updates
            self.assertGreater(update.open_streams, 0)
            command.signal(signal.SIGSTOP)
            began = time.monotonic()
            wait_until(
                lambda: wire.model("model").updates[0].open_streams == 0,
                "the server ends the streams of a sender that is stopped",
                PROMISED_SECONDS + SLOW_SECONDS,
                poll=0.1,
            )
            print(f"streams ended after {time.monotonic() - began:.1f} s")
            (update,) = wire.model("model").updates
            self.assertEqual(update.state, ws.UPDATE_STATE_RECEIVING)
            # Its connections, too: what is left is ours.
            wait_until(lambda: len(server.connections()) == 1, "the sender's connections end")
            command.kill()
            wire.abort("model", update.update_id)
        self.assert_no_partial_files(server)
        server.await_quiet()

    def test_the_sender_keeps_a_stream_open_and_sends_nothing(self) -> None:
        server = self.start_server(*SERVER_FLAGS)
        tensor = random_tensor(np.random.default_rng(1), "tensor", "U8", (1000,))
        done = threading.Event()
        self.addCleanup(done.set)

        def one_then_silence(update_id: str) -> Iterator[Any]:
            yield chunk_of(tensor, 0, 100, update_id=update_id)
            done.wait(2 * PROMISED_SECONDS)

        with Wire(server.address) as wire:
            update_id = wire.begin("model", 1, [tensor]).update_id
            began = time.monotonic()
            with self.assertRaises(grpc.RpcError):
                wire.stub.Push(one_then_silence(update_id), timeout=2 * PROMISED_SECONDS)
            done.set()
            self.assertLess(time.monotonic() - began, PROMISED_SECONDS)
            # A stream that is silent can only be cut. What its update ended of, the next call is told.
            with refused(self, grpc.StatusCode.ABORTED, "no chunk for"):
                wire.commit("model", update_id)
            self.assert_no_partial_files(server)
        server.await_quiet()

    def assert_ends_with_cause(
        self, command: Command, codes: str, address: str, seconds: float = PROMISED_SECONDS
    ) -> Outcome:
        began = time.monotonic()
        outcome = command.outcome(seconds)
        print(f"ended {time.monotonic() - began:.1f} s later: {outcome.error}")
        self.assertEqual(outcome.code, 1)
        self.assertRegex(outcome.error, codes)
        self.assertIn(address, outcome.error)
        return outcome

    def test_the_receiver_is_killed(self) -> None:
        server = self.start_server(NO_DRAIN, SLOW, listen=self.reserve_address())
        command = self.direct_push(server, *CLIENT_FLAGS)
        self.await_landed(server, "model")
        server.kill()
        self.assert_ends_with_cause(command, "UNAVAILABLE", server.address)
        self.start_server(NO_DRAIN)  # Clears what the killed one left.

    def test_the_receiver_is_killed_with_default_limits(self) -> None:
        server = self.start_server(NO_DRAIN, SLOW, listen=self.reserve_address())
        command = self.direct_push(server)
        self.await_landed(server, "model")
        server.kill()
        self.assert_ends_with_cause(command, "UNAVAILABLE", server.address, PROMISED_SECONDS + SLOW_SECONDS)
        self.start_server(NO_DRAIN)

    def test_the_receiver_is_stopped_and_answers_nothing(self) -> None:
        server = self.start_server(NO_DRAIN, SLOW)
        command = self.direct_push(server, *CLIENT_FLAGS)
        self.await_landed(server, "model")
        server.signal(signal.SIGSTOP)
        self.addCleanup(server.signal, signal.SIGCONT)
        self.assert_ends_with_cause(command, "UNAVAILABLE|DEADLINE_EXCEEDED", server.address)
        server.signal(signal.SIGCONT)
        server.await_quiet()

    def test_the_line_goes_dead(self) -> None:
        server = self.start_server(NO_DRAIN)
        command = self.hold_in_mid_push(server, *CLIENT_FLAGS)
        outcome = command.outcome(PROMISED_SECONDS)
        self.assertRegex(outcome.error, "DEADLINE_EXCEEDED|UNAVAILABLE")
        self.assertRegex(outcome.error, "no progress|takes no data|ping timeout|keepalive")

    def test_nobody_listens(self) -> None:
        address = self.reserve_address()
        source = write_filled(self.folder / "source.safetensors", 1, (10,))
        command = self.start_command("push", source, f"--to={address}", "--model=model", *CLIENT_FLAGS)
        self.assert_ends_with_cause(command, "UNAVAILABLE", address)

    def test_the_sender_is_interrupted(self) -> None:
        server = self.start_server(*SERVER_FLAGS)
        command = self.direct_push(server)
        self.await_landed(server, "model")
        command.signal(signal.SIGINT)
        outcome = command.outcome(PROMISED_SECONDS)
        self.assertEqual(outcome.code, 1)
        self.assertIn("interrupted; run the same command again to resume", outcome.error)
        self.assert_update_ended(server, "no chunk for")


if __name__ == "__main__":
    python_cases.main()
