"""A port that is taken, a folder that cannot be written, a disk that fills up: an error that says what to do."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.end_to_end.checkpoints import random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest, paths_below
from tests.end_to_end.processes import Command, Server, binary
from tests.end_to_end.proxy import Proxy
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import Wire, chunk_of, refused
from tools import python_cases

MIB = 1 << 20
START_SECONDS = 30
# The promise: what goes wrong at one side is an error at the other within that long.
PROMISED_SECONDS = 30
# What a test's filler takes at a time: a page, so that nothing of use is left.
FILL_BYTES = 4096


class CannotStart(EndToEndTest):
    def start_refused(self, *flags: str, code: int = 1) -> str:
        """What a server says that does not start. It must not print an address."""
        command = [binary("WEIGHTSTREAM_SERVER"), *flags]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_SECONDS)
        self.assertEqual(ended.returncode, code, ended.stderr)
        self.assertEqual(ended.stdout, "")
        return ended.stderr

    def test_a_port_in_use(self) -> None:
        server = self.start_server()
        message = self.start_refused(f"--data-dir={self.data_dir('other')}", f"--listen={server.address}")
        for word in (server.address, "in use", "--listen"):
            self.assertIn(word, message)
        # The first one has lost no connection to the second.
        self.weightstream("status", f"--to={server.address}")

    def test_a_port_in_use_by_someone_else(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            self.assertIn("in use", self.start_refused(f"--data-dir={self.data_dir()}", f"--listen={address}"))

    def test_a_gpu_on_a_machine_without_one(self) -> None:
        if Path("/dev/nvidiactl").exists():
            self.skipTest("this machine has an NVIDIA driver")
        message = self.start_refused(f"--data-dir={self.data_dir()}", "--listen=127.0.0.1:0", "--device=cuda:0")
        self.assertRegex(message, "cuda:0.*(has no NVIDIA driver|was built without CUDA)")
        self.assertIn("--device=host", message)

    def test_addresses_that_are_none(self) -> None:
        for address, code in (
            ("nonsense", 2),
            ("127.0.0.1", 2),
            ("127.0.0.1:99999", 2),
            ("no.such.host.invalid:1234", 2),
            ("unix:/no/folder/s", 1),
        ):
            with self.subTest(address=address):
                message = self.start_refused(f"--data-dir={self.data_dir()}", f"--listen={address}", code=code)
                self.assertIn(address, message)

    def test_a_data_directory_in_use(self) -> None:
        server = self.start_server()
        message = self.start_refused(f"--data-dir={server.data_dir}", "--listen=127.0.0.1:0")
        for word in (str(server.data_dir), "in use by another", "--data-dir"):
            self.assertIn(word, message)

    def test_a_data_directory_that_cannot_be_made_or_written(self) -> None:
        file = self.folder / "file"
        file.touch()
        # Root may write anywhere but where there is no folder, and where the kernel itself says no.
        for path in (file, file / "below", Path("/proc/weightstream"), Path("/proc/self/fdinfo/data"), Path("/sys")):
            with self.subTest(path=path):
                message = self.start_refused(f"--data-dir={path}", "--listen=127.0.0.1:0")
                self.assertIn(str(path), message)

    def test_flags_that_are_none(self) -> None:
        for flags in (
            ("--nonsense",),
            ("--bucket-mib=0",),
            ("--bucket-mib=many",),
            ("--keep-versions=0",),
            ("--device=abacus",),
            ("--log-format=runes",),
            ("stray",),
        ):
            with self.subTest(flags=flags):
                data_dir = f"--data-dir={self.data_dir()}"
                message = self.start_refused(data_dir, "--listen=127.0.0.1:0", *flags, code=2)
                self.assertIn(flags[0].partition("=")[0].strip("-"), message)

    def test_with_json_asked_for_each_line_is_json_whatever_is_wrong(self) -> None:
        for log_format in (["--log-format=json"], ["--log-format", "json"]):
            for flags, code in (
                (["--nonsense"], 2),
                (["--log-level=loud"], 2),
                (["--bucket-mib=many"], 2),
                (["--keep-versions"], 2),
                (["--log-format=text"], 2),
                (["--tls-cert=/no/such/file", "--tls-key=/no/such/file"], 1),
            ):
                for arguments in ([*log_format, *flags], [*flags, *log_format]):
                    with self.subTest(arguments=arguments):
                        message = self.start_refused(
                            f"--data-dir={self.data_dir()}", "--listen=127.0.0.1:0", *arguments, code=code
                        )
                        (line,) = [json.loads(line) for line in message.splitlines()]
                        self.assertEqual((line["level"], line["event"]), ("error", "cannot_start"))
                        self.assertIn(flags[0].partition("=")[0].removeprefix("--"), line["error"])


class FullMedium(EndToEndTest):
    """The medium fills up after an update began, when its space was there: ENOSPC is an error, never SIGBUS."""

    def setUp(self) -> None:
        super().setUp()
        rng = np.random.default_rng(28)
        self.kept = [random_tensor(rng, "kept", "U8", (MIB,))]
        self.tensor = random_tensor(rng, "tensor", "U8", (96 * MIB,))

    def push_in_chunks(self, wire: Wire, update_id: str, ranges: Sequence[tuple[int, int]]) -> int:
        """Sends these bytes; a chunk may be refused for want of space, and for nothing else. Returns how many were."""
        refusals = 0
        for begin, end in ((at, at + MIB) for first, last in ranges for at in range(first, last, MIB)):
            try:
                wire.push(update_id, [chunk_of(self.tensor, begin, end)])
            except grpc.RpcError as error:
                raised: Any = error
                self.assertEqual(raised.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, raised.details())
                self.assertRegex(raised.details(), "space|full|room")
                refusals += 1
        return refusals

    def check_server_goes_on(self, server: Server, wire: Wire, data_dir: Path) -> None:
        self.assertTrue(server.running(), server.log())
        with self.open_version(data_dir, "kept") as file:
            self.assert_holds(file, self.kept)

    def start_on_small_medium(self, size_mib: int, *flags: str) -> tuple[Server, Path]:
        """A server with its data folder on a small tmpfs of its own, and that tmpfs as it is seen from here."""
        place = self.folder / "small"
        place.mkdir()
        script = f'mount -t tmpfs -o size={size_mib}m none "$0" && exec "$@"'
        wrapper = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, str(place)]
        tried = subprocess.run([*wrapper, "true"], capture_output=True, text=True, timeout=START_SECONDS)
        if tried.returncode != 0:
            self.skipTest(f"this machine lets no one mount a tmpfs: {tried.stderr.strip()}")
        server = self.start_server(*flags, data_dir=place / "data", wrapper=wrapper)
        # The mount is the server's own: seen from here it lies below the server's root.
        return server, Path(f"/proc/{server.pid}/root{place}")

    @staticmethod
    def fill(filler: Path) -> int:
        """Takes whatever is left of the medium, and returns how many bytes that was."""
        taken = 0
        with filler.open("wb") as file:
            for step in (MIB, FILL_BYTES):
                try:
                    while True:
                        os.posix_fallocate(file.fileno(), taken, step)
                        taken += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        return taken

    def resume_and_commit(self, wire: Wire, inside: Path, refusals: int) -> None:
        """With space again, the same update goes on from what had landed."""
        resumed = wire.begin("model", 1, [self.tensor])
        self.assertTrue(resumed.resumed)
        self.assertEqual(resumed.missing_bytes, refusals * MIB)
        missing = [(part.begin, part.end) for tensor in resumed.missing for part in tensor.ranges]
        self.assertEqual(self.push_in_chunks(wire, resumed.update_id, missing), 0)
        wire.commit("model", resumed.update_id)
        with self.open_version(inside / "data", "model") as file:
            self.assert_holds(file, [self.tensor])

    def check_small_medium(self, device: str) -> None:
        # Without work ahead, which would take the space before the filler does.
        server, inside = self.start_on_small_medium(160, f"--device={device}", "--spare-arenas=false")
        with Wire(server.address) as wire:
            wire.push_all("kept", 1, self.kept)
            update = wire.begin("model", 1, [self.tensor])
            filler = inside / "filler"
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 96 * MIB)
            refusals = self.push_in_chunks(wire, update.update_id, [(0, len(self.tensor.data))])
            self.assertGreater(refusals, 0)
            self.assertLess(refusals, 96, "the part that fits must land")
            self.check_server_goes_on(server, wire, inside / "data")
            filler.unlink()
            self.resume_and_commit(wire, inside, refusals)

    def check_full_beside_work_ahead(self, device: str) -> None:
        """The server takes space ahead while the filler takes what is left: who gets how much is left to chance."""
        server, inside = self.start_on_small_medium(160, f"--device={device}")
        with Wire(server.address) as wire:
            wire.push_all("kept", 1, self.kept)
            update = wire.begin("model", 1, [self.tensor])
            filler = inside / "filler"
            taken = self.fill(filler)
            refusals = self.push_in_chunks(wire, update.update_id, [(0, len(self.tensor.data))])
            print(f"{device}: the filler took {taken / MIB:.1f} MiB; {refusals} of 96 chunks were refused")
            self.check_server_goes_on(server, wire, inside / "data")
            filler.unlink()
            self.resume_and_commit(wire, inside, refusals)
            self.check_server_goes_on(server, wire, inside / "data")

    def test_a_full_tmpfs_in_mid_push(self) -> None:
        self.check_small_medium("host")

    def test_a_full_tmpfs_in_mid_push_through_staging(self) -> None:
        self.check_small_medium("host-staged")

    def test_a_full_tmpfs_beside_work_ahead(self) -> None:
        self.check_full_beside_work_ahead("host")

    def test_a_full_tmpfs_beside_work_ahead_through_staging(self) -> None:
        self.check_full_beside_work_ahead("host-staged")

    # ---- A push fails for want of space, and nothing is left of it ---------------------------------------------------

    @staticmethod
    def unaccounted_bytes(inside: Path) -> int:
        """Space that is taken by files without a name, which a process still holds."""
        medium = os.statvfs(inside)
        named = 0
        for path in paths_below(inside):
            # A file that goes meanwhile is counted by the next look.
            with contextlib.suppress(FileNotFoundError):
                named += path.lstat().st_blocks * 512 if path.is_file() else 0
        return (medium.f_blocks - medium.f_bfree) * medium.f_frsize - named

    def assert_nothing_is_left(self, server: Server, inside: Path) -> None:
        """No file, no memory and no connection of the update of "model" that failed, in the end."""

        def left() -> list[str]:
            named = [str(path) for path in (inside / "data" / "model").glob("*")]
            return named + [name for name in server.open_files() if ".incoming" in name or "/model/" in name]

        wait_until(lambda: not left(), "the files of the failed update are gone", PROMISED_SECONDS)
        wait_until(lambda: self.unaccounted_bytes(inside) == 0, "the failed update's memory is free", PROMISED_SECONDS)
        server.await_quiet()
        status = self.weightstream("status", f"--to={server.address}").json["servers"][0]
        self.assertEqual([m["current_version"] for m in status["models"] if m["name"] == "model"], [0])

    def start_push(self, server: Server, passing_bytes: int) -> tuple[Command, Proxy]:
        """A push whose line holds back all but so many bytes."""
        proxy = self.start_proxy(server, passing_bytes)
        source = write_safetensors(self.folder / "source.safetensors", [self.tensor])
        # Small chunks: where few bytes may pass, some are whole all the same, over however many streams they come.
        command = self.start_command("push", source, f"--to={proxy.address}", "--model=model", "--bucket-mib=0.25")
        return command, proxy

    def check_push_into_full_medium(self, device: str, passing_bytes: int, least_landed: int) -> None:
        # Without work ahead, which would take the space before the filler does.
        server, inside = self.start_on_small_medium(160, f"--device={device}", "--spare-arenas=false")
        with Wire(server.address) as wire:
            wire.push_all("kept", 1, self.kept)
            free_before = os.statvfs(inside).f_bfree
            command, proxy = self.start_push(server, passing_bytes)
            self.await_landed(server, "model", least_landed)
            (update,) = wire.model("model").updates
            self.assertEqual(update.landed_bytes > 0, least_landed > 0)
            self.assertGreater(self.fill(inside / "filler"), 0)
            proxy.allow(None)
            outcome = command.outcome(PROMISED_SECONDS)
            self.assertEqual(outcome.code, 1)
            self.assertIn("RESOURCE_EXHAUSTED", outcome.error)
            self.assertRegex(outcome.error, "space|full|room")
            self.check_server_goes_on(server, wire, inside / "data")
        self.assert_nothing_is_left(server, inside)
        (inside / "filler").unlink()
        self.assertEqual(os.statvfs(inside).f_bfree, free_before)
        # The same command again is all that it takes.
        self.push(self.folder / "source.safetensors", server.address, "model")
        with self.open_version(inside / "data", "model") as file:
            self.assert_holds(file, [self.tensor])

    # Enough for a manifest of one tensor, and less than a chunk.
    def test_no_space_at_the_first_chunk(self) -> None:
        self.check_push_into_full_medium("host", MIB // 8, 0)

    def test_no_space_at_the_first_chunk_through_staging(self) -> None:
        self.check_push_into_full_medium("host-staged", MIB // 8, 0)

    def test_no_space_at_a_later_chunk(self) -> None:
        self.check_push_into_full_medium("host", 12 * MIB, MIB)

    def test_no_space_at_a_later_chunk_through_staging(self) -> None:
        self.check_push_into_full_medium("host-staged", 12 * MIB, MIB)

    def test_no_space_at_begin(self) -> None:
        server, inside = self.start_on_small_medium(64)
        with Wire(server.address) as wire:
            wire.push_all("kept", 1, self.kept)
            source = write_safetensors(self.folder / "source.safetensors", [self.tensor])
            outcome = self.push(source, server.address, "model", code=1)
            self.assertIn("RESOURCE_EXHAUSTED", outcome.error)
            self.assertIn("are free", outcome.error)
            self.check_server_goes_on(server, wire, inside / "data")
        self.assert_nothing_is_left(server, inside)

    def test_space_that_is_promised_to_one_update_is_not_promised_to_another(self) -> None:
        server, _ = self.start_on_small_medium(160)
        with Wire(server.address) as wire:
            first = wire.begin("first", 1, [self.tensor])
            with self.assertRaises(grpc.RpcError) as caught:
                wire.begin("second", 1, [self.tensor])
            raised: Any = caught.exception
            self.assertEqual(raised.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.assertIn("promised to updates in flight", raised.details())
            wire.abort("first", first.update_id)
            second = wire.begin("second", 1, [self.tensor])
            wire.abort("second", second.update_id)

    def test_an_update_that_sends_nothing_keeps_nobody_out(self) -> None:
        server, _ = self.start_on_small_medium(160, "--silent-stream-seconds=1")
        with Wire(server.address) as wire:
            silent = wire.begin("silent", 1, [self.tensor])

            def begun() -> str:
                try:
                    return wire.begin("second", 1, [self.tensor]).update_id
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
                    return ""

            second = wait_until(begun, "the silent update gives way", poll=0.1)
            with refused(self, grpc.StatusCode.ABORTED, "another update needed its room"):
                wire.commit("silent", silent.update_id)
            wire.abort("second", second)

    def test_a_file_size_limit(self) -> None:
        limit = 32 * MIB
        wrapper = ["prlimit", f"--fsize={limit}"]
        server = self.start_server(data_dir=self.data_dir(), wrapper=wrapper)
        with Wire(server.address) as wire:
            wire.push_all("kept", 1, self.kept)
            source = write_safetensors(self.folder / "source.safetensors", [self.tensor])
            outcome = self.push(source, server.address, "model", code=1)
            self.assertIn("RESOURCE_EXHAUSTED", outcome.error)
            self.check_server_goes_on(server, wire, server.data_dir)


if __name__ == "__main__":
    python_cases.main()
