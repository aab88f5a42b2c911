"""A server whose wall clock is set waits as long as it would have: it sees what is idle, and ends when it is to."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import numpy as np
from weightstream.v1 import weightstream_pb2 as ws

from tests.end_to_end.checkpoints import random_tensor
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server, binary
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import Wire, chunk_of
from tests.faults.receiver import clock_wrapper, jump_clock
from tools import python_cases

HOUR = 3600.0
TOKEN = "some-token-0123456789abcdef"
SECONDS = 30
TENSOR = random_tensor(np.random.default_rng(1), "tensor", "U8", (1024,))


class Clock(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        if b"libtsan.so" in Path(binary("WEIGHTSTREAM_SERVER")).read_bytes():
            self.skipTest("ThreadSanitizer's library must be the first, where the jumping clock has to be")
        self.clock = self.folder / "clock"

    def test_an_idle_update_is_aborted(self) -> None:
        server = self.start_server("--idle-update-seconds=2", wrapper=clock_wrapper(self.clock))
        with Wire(server.address) as wire:
            wire.begin("model", 1, [TENSOR])
        jump_clock(self.clock, -HOUR)
        wait_until(lambda: "no chunk for 2s" in server.log(), "the idle update is aborted", SECONDS)

    def test_a_new_token_is_taken(self) -> None:
        tokens = self.folder / "tokens"
        tokens.write_text("read * token:another-token-0123456789\n")
        flags = (f"--auth-token-file={tokens}", "--allow-plaintext-tokens")
        server = self.start_server(*flags, wrapper=clock_wrapper(self.clock))
        jump_clock(self.clock, -HOUR)
        tokens.write_text(f"read * token:{TOKEN}\n")
        wait_until(lambda: server.log().count(" access_rules ") == 2, "the file is read again", SECONDS)

    def test_a_watch_tells_of_progress(self) -> None:
        server = self.start_server(wrapper=clock_wrapper(self.clock))
        with Wire(server.address) as wire:
            update = wire.begin("model", 1, [TENSOR])
            states = wire.stub.WatchModel(ws.WatchModelRequest(model="model"), timeout=SECONDS)
            self.assertEqual(next(states).updates[0].landed_bytes, 0)
            jump_clock(self.clock, -HOUR)
            wire.push(update.update_id, [chunk_of(TENSOR)])
            # A state may come from between the stream's beginning and its chunk's landing.
            self.assertTrue(any(state.updates[0].landed_bytes == len(TENSOR.data) for state in states))
            states.cancel()

    def test_a_drain_ends(self) -> None:
        server = self.start_server("--drain-seconds=2", wrapper=clock_wrapper(self.clock))
        with Wire(server.address) as wire:
            wire.begin("model", 1, [TENSOR])
        server.signal(signal.SIGTERM)
        wait_until(lambda: " shutting_down " in server.log(), "the drain begins", SECONDS)
        jump_clock(self.clock, -HOUR)
        self.assertEqual(server.wait(SECONDS), 0)
        self.assertIn("drained=false", server.log())

    def test_a_drain_lasts_though_the_clock_is_set_forward(self) -> None:
        server = self.start_server("--drain-seconds=600", wrapper=clock_wrapper(self.clock))
        with Wire(server.address) as wire:
            update = wire.begin("model", 1, [TENSOR])
            wire.push(update.update_id, [chunk_of(TENSOR)])
            server.signal(signal.SIGTERM)
            wait_until(lambda: " shutting_down " in server.log(), "the drain begins", SECONDS)
            jump_clock(self.clock, HOUR)
            # It looks twenty times a second.
            until = time.monotonic() + 1
            while time.monotonic() < until:
                self.assertEqual(wire.model("model").updates[0].state, ws.UPDATE_STATE_RECEIVING)
            wire.commit("model", update.update_id)
        self.assertEqual(server.wait(SECONDS), 0)
        self.assertIn("drained=true", server.log())

    def hooked(self, *flags: str) -> Server:
        """With a version that has just become current."""
        server = self.start_server("--on-commit-timeout-seconds=2", *flags, wrapper=clock_wrapper(self.clock))
        with Wire(server.address) as wire:
            wire.push_all("model", 1, [TENSOR])
        return server

    def program(self, text: str) -> str:
        path = self.folder / "hook"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return f"--on-commit-exec={path}"

    def test_a_hooks_program_is_killed_in_time(self) -> None:
        started = self.folder / "started"
        server = self.hooked(self.program(f"touch {started}; exec sleep 600"), "--on-commit-attempts=1")
        wait_until(started.exists, "the hook runs", SECONDS)
        jump_clock(self.clock, -HOUR)
        wait_until(lambda: "was killed after 2s" in server.log(), "the hook is killed", SECONDS)

    def test_a_hooks_request_is_given_up_in_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent.settimeout(SECONDS)
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            server = self.hooked(f"--on-commit={url}", "--on-commit-body={}", "--on-commit-attempts=1")
            with silent.accept()[0]:
                jump_clock(self.clock, -HOUR)
                wait_until(lambda: "no answer within 2s" in server.log(), "the request is given up", SECONDS)

    def test_a_hook_that_failed_is_called_again(self) -> None:
        server = self.hooked(self.program("exit 1"), "--on-commit-attempts=2")
        wait_until(lambda: " commit_hook_failed " in server.log(), "the hook has failed", SECONDS)
        jump_clock(self.clock, -HOUR)
        wait_until(lambda: " commit_hook_given_up " in server.log(), "it is called again", SECONDS)


if __name__ == "__main__":
    python_cases.main()
