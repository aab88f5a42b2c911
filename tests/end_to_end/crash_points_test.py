"""The server ends before each single step of a commit, one after the other: every reader sees whole versions."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.end_to_end.checkpoints import filled_tensor, write_filled
from tests.end_to_end.current_reader import Reader
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server, binary
from tests.end_to_end.waiting import wait_until
from tools import python_cases

WORDS = (10_000, 1, 3)
# Far more than a commit has; that the last ones are never reached is checked.
MOST_STEPS = 60


class CrashPoints(EndToEndTest):
    def push_into_crash(self, data_dir: Path, address: str, version: int, step: int) -> tuple[Server, list[str]]:
        """Pushes a version to a server that ends before this step of the commit, and returns the steps that it made.

        The server that is returned runs: the one that survived, or another one in its place.
        """
        crash = [
            "env",
            f"LD_PRELOAD={binary('CRASH_POINT')}",
            f"WEIGHTSTREAM_CRASH_STEP={step}",
            # AddressSanitizer's library wants to be the first, and intercepts none of the calls that crash_point does.
            f"ASAN_OPTIONS={os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0",
        ]
        # Version 1 of two is removed once the third is current: that is a step of the commit, too. Without spare arenas
        # nothing is done in the background, so that the steps are the same each time.
        server = self.start_server(
            "--keep-versions=2", "--spare-arenas=false", data_dir=data_dir, listen=address, wrapper=crash
        )
        source = write_filled(self.folder / "source.safetensors", version, WORDS)
        flags = (f"--to={server.address}", "--model=model", f"--version={version}")
        command = self.start_command("push", source, *flags)
        crashed = server
        wait_until(lambda: not (command.running() and crashed.running()), "the server or the push ends")
        if not crashed.running():
            crashed.kill()
            server = self.start_server("--keep-versions=2", data_dir=data_dir, listen=address)
        outcome = command.outcome()
        self.assertEqual(outcome.code, 0, f"step {step}: {outcome.stdout}\n{outcome.stderr}")
        self.assert_current(server, "model", [filled_tensor(f"filled.{i}", n, version) for i, n in enumerate(WORDS)])
        return server, re.findall(r"^crash_point: step \d+, (.*)$", crashed.log(), re.MULTILINE)

    def check(self, on_disk: bool) -> None:
        data_dir = self.data_dir(on_disk=on_disk)
        address = self.reserve_address()
        server = self.start_server(data_dir=data_dir, listen=address)
        if server.sanitizer() == "libtsan":
            self.skipTest("ThreadSanitizer's library must be the first, where crash_point would have to be")
        for version in (1, 2):
            source = write_filled(self.folder / "source.safetensors", version, WORDS)
            self.push(source, address, "model", f"--version={version}")
        reader = Reader(data_dir / "model")
        self.addCleanup(reader.kill)
        reader.await_first()
        for step in range(MOST_STEPS):
            server.stop()
            server, steps = self.push_into_crash(data_dir, address, 3 + step, step)
            if not steps[-1].endswith("crash"):
                break
        print(f"a commit's steps: {', '.join(steps)}")
        result = reader.result()
        self.assertIsNone(result["error"])
        self.assertEqual(result["versions"][-1], 3 + step)
        # It went through all steps of a whole commit, removal of an old version included, before it broke off.
        self.assertGreater(step, 5)
        # A push after one that broke off before the removal has more to remove, and so more steps than the last one.
        self.assertLessEqual(len(steps), step)
        for name in ("renameat", "symlinkat", "unlinkat"):
            self.assertIn(name, steps)

    def test_before_each_step_in_shared_memory(self) -> None:
        self.check(on_disk=False)

    def test_before_each_step_on_disk(self) -> None:
        self.check(on_disk=True)


if __name__ == "__main__":
    python_cases.main()
