"""A server that is not root: the whole flow, what its files may be read by, and links that somebody plants."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server, binary
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import Wire
from tools import python_cases

MIB = 1 << 20
NOBODY = 65534
STRANGER = 1234
SETPRIV_SECONDS = 30


class Unprivileged(EndToEndTest):
    """The server is started as nobody where the test is root, and as whoever runs the test elsewhere."""

    def setUp(self) -> None:
        super().setUp()
        self.user = NOBODY if os.geteuid() == 0 else os.geteuid()
        # Nobody must get past it; what is in it is not its.
        self.shared_memory.chmod(0o711)

    def wrapper(self, umask: str) -> Sequence[str]:
        """What starts a server as that user, under this umask."""
        words = ["sh", "-c", f'umask {umask} && exec "$@"', "sh"]
        if os.geteuid() != 0:
            return words
        identity = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        tried = subprocess.run([*identity, "true"], capture_output=True, text=True, timeout=SETPRIV_SECONDS)
        if tried.returncode != 0:
            self.skipTest(f"this machine lets root become nobody else: {tried.stderr.strip()}")
        return [*identity, *words]

    def reachable_server(self) -> Path:
        """A copy of the binary: the build's folder may be below one that only root may enter."""
        copy = self.shared_memory / "weightstream-server"
        if not copy.exists():
            shutil.copy(binary("WEIGHTSTREAM_SERVER"), copy)
            copy.chmod(0o755)
        return copy

    def start_unprivileged(self, *flags: str, umask: str = "0022") -> Server:
        wrapper = self.wrapper(umask)
        data_dir = self.data_dir()
        data_dir.mkdir(exist_ok=True)
        os.chown(data_dir, self.user, -1)
        # The copy takes the place of the harness's binary.
        replace = ["sh", "-c", 'shift && exec "$0" "$@"', str(self.reachable_server())]
        return self.start_server(*flags, data_dir=data_dir, wrapper=[*wrapper, *replace])

    def tensors(self, seed: int) -> list[Tensor]:
        rng = np.random.default_rng(seed)
        return [random_tensor(rng, f"tensor.{i}", "BF16", (100 + i, 1024)) for i in range(8)]

    def push_version(self, server: Server, version: int, model: str = "model", code: int = 0) -> Path:
        source = write_safetensors(self.folder / f"{model}-{version}.safetensors", self.tensors(version))
        self.push(source, server.address, model, f"--version={version}", code=code)
        return source

    def test_the_whole_flow(self) -> None:
        for umask in ("0000", "0077"):
            with self.subTest(umask=umask):
                server = self.start_unprivileged(umask=umask)
                status = Path(f"/proc/{server.pid}/status").read_text()
                self.assertIn("Uid:\t" + "\t".join([str(self.user)] * 4), status)
                highest = max((int(entry.name) for entry in self.data_dir().glob("model/[0-9]*")), default=0)
                for version in (highest + 1, highest + 2, highest + 3):
                    source = self.push_version(server, version)
                    self.assert_current(server, "model", self.tensors(version))
                self.weightstream("verify", source, f"--to={server.address}", "--model=model")
                pulled = self.folder / f"pulled-{umask}"
                self.weightstream("pull", f"--from={server.address}", "--model=model", f"--out={pulled}")
                self.weightstream("verify", pulled, f"--to={server.address}", "--model=model")
                self.weightstream("rollback", f"--to={server.address}", "--model=model", f"--version={highest + 2}")
                self.check_modes(server)
                server.stop()

    def check_modes(self, server: Server) -> None:
        """Of versions, and of the memory made ready for the next one."""
        # Not as soon as its file is there: that is made under the umask, and opened to the group in the next step.
        with Wire(server.address) as wire:
            wait_until(lambda: wire.model("model").prepared_bytes, "the next version's memory is there")
        seen = set()
        for path in server.data_dir.rglob("*"):
            info = path.lstat()
            self.assertEqual(info.st_uid, self.user, path)
            if stat.S_ISLNK(info.st_mode):
                continue
            wanted = 0o750 if stat.S_ISDIR(info.st_mode) else 0o640
            self.assertEqual(stat.S_IMODE(info.st_mode), wanted, path)
            seen.add(wanted)
        self.assertEqual(seen, {0o750, 0o640})

    def test_planted_links_lead_nowhere(self) -> None:
        outside = self.folder / "outside"
        (outside / "1").mkdir(parents=True)
        write_safetensors(outside / "1" / "model.safetensors", self.tensors(1))
        (outside / "current").symlink_to("1")
        server = self.start_unprivileged()
        self.push_version(server, 1)
        before = sorted((path, path.lstat().st_mtime_ns) for path in outside.rglob("*"))
        planted = [server.data_dir / "linked", server.data_dir / "model" / "2"]
        planted[0].symlink_to(outside)
        planted[1].symlink_to(outside / "1")
        try:
            for model, version, place in (("linked", 5, planted[0]), ("model", 2, planted[1])):
                source = write_safetensors(self.folder / "refused.safetensors", self.tensors(9))
                outcome = self.push(source, server.address, model, f"--version={version}", code=1)
                self.assertRegex(outcome.error, "FAILED_PRECONDITION.*symbolic link.*remove it")
                self.assertIn(str(place), outcome.error)
            server.stop()
            server = self.start_unprivileged()
            for place in planted:
                self.assertRegex(server.log(), f"{place} is a symbolic link")
            pull = self.weightstream(
                "pull", f"--from={server.address}", "--model=linked", f"--out={self.folder / 'out'}", code=1
            )
            self.assertIn("NOT_FOUND", pull.error)
            # What was there is served all the same.
            self.assert_current(server, "model", self.tensors(1))
            self.push_version(server, 3)
        finally:
            for place in planted:
                place.unlink()
        self.assertEqual(sorted((path, path.lstat().st_mtime_ns) for path in outside.rglob("*")), before)

    def test_a_file_replaced_by_a_link_is_not_read(self) -> None:
        outside = write_safetensors(self.folder / "outside.safetensors", self.tensors(7))
        server = self.start_unprivileged("--keep-versions=2")
        self.push_version(server, 1)
        self.push_version(server, 2)
        file = server.data_dir / "model" / "1" / "model.safetensors"
        file.unlink()
        file.symlink_to(outside)
        out = self.folder / "out"
        pull = self.weightstream(
            "pull", f"--from={server.address}", "--model=model", "--version=1", f"--out={out}", code=1
        )
        self.assertRegex(pull.error, f"FAILED_PRECONDITION.*{file} is a symbolic link")
        # It goes with its version; what it names stays.
        self.push_version(server, 3)
        wait_until(lambda: not list((server.data_dir / "model").glob(".removed-*")), "version 1 is freed")
        self.assertFalse((server.data_dir / "model" / "1").exists())
        self.assertTrue(outside.is_file())

    def test_a_data_directory_that_another_user_made_first_is_refused(self) -> None:
        """As in /dev/shm, where anybody may: its owner could exchange the weights of every model in it."""
        if os.geteuid() != 0:
            self.skipTest("only root can make a folder that belongs to another user")
        shared = self.shared_memory / "shm"
        shared.mkdir()
        shared.chmod(0o1777)
        made = shared / "weightstream"
        made.mkdir()
        made.chmod(0o777)
        os.chown(made, STRANGER, STRANGER)
        for data_dir in (made, made / "below"):
            command = [*self.wrapper("0022"), str(self.reachable_server()), "--listen=127.0.0.1:0"]
            ended = subprocess.run(
                [*command, f"--data-dir={data_dir}"], capture_output=True, text=True, timeout=SETPRIV_SECONDS
            )
            self.assertEqual((ended.returncode, ended.stdout), (1, ""), ended.stderr)
            self.assertRegex(ended.stderr, f"{made} .*belongs to user {STRANGER} .*remove it.*--data-dir")
        self.assertEqual(list(made.iterdir()), [])


if __name__ == "__main__":
    python_cases.main()
