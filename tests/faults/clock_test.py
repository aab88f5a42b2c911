"""A server whose wall clock is set back goes on to look at what is idle, and at what was replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.end_to_end.checkpoints import random_tensor
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import binary
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import Wire
from tests.faults.receiver import clock_wrapper, jump_clock
from tools import python_cases

HOUR = 3600.0
TOKEN = "some-token-0123456789abcdef"
SECONDS = 30


class Clock(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        if b"libtsan.so" in Path(binary("WEIGHTSTREAM_SERVER")).read_bytes():
            self.skipTest("ThreadSanitizer's library must be the first, where the jumping clock has to be")
        self.clock = self.folder / "clock"

    def test_an_idle_update_is_aborted(self) -> None:
        server = self.start_server("--idle-update-seconds=2", wrapper=clock_wrapper(self.clock))
        with Wire(server.address) as wire:
            wire.begin("model", 1, [random_tensor(np.random.default_rng(1), "tensor", "U8", (1024,))])
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


if __name__ == "__main__":
    python_cases.main()
