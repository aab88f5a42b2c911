"""A port that is taken, a folder that cannot be written, a disk that fills up: an error that says what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import unittest
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server, binary
from tests.end_to_end.wire import Wire, chunk_of

MIB = 1 << 20
START_SECONDS = 30


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


class FullMedium(EndToEndTest):
    """The medium fills up after an update began, when its space was there: ENOSPC is an error, never SIGBUS."""

    def setUp(self) -> None:
        super().setUp()
        rng = np.random.default_rng(28)
        self.kept = [random_tensor(rng, "kept", "U8", (MIB,))]
        self.tensor = random_tensor(rng, "tensor", "U8", (96 * MIB,))

    def assert_push_fails(self, wire: Wire, update_id: str, tensor: Tensor) -> int:
        """Every byte is sent; some chunk must be refused for want of space. Returns how many streams were."""
        refusals = 0
        for begin in range(0, len(tensor.data), MIB):
            try:
                wire.push(update_id, [chunk_of(tensor, begin, begin + MIB)])
            except grpc.RpcError as error:
                raised: Any = error
                self.assertEqual(raised.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, raised.details())
                self.assertRegex(raised.details(), "space|full|room")
                refusals += 1
        self.assertGreater(refusals, 0)
        return refusals

    def check_server_goes_on(self, server: Server, wire: Wire, data_dir: Path) -> None:
        self.assertTrue(server.running(), server.log())
        with self.open_version(data_dir, "kept") as file:
            self.assert_holds(file, self.kept)

    def small_medium(self, size_mib: int) -> tuple[Path, Sequence[str]]:
        """A folder, and what to start a server with so that it sees a small tmpfs there."""
        place = self.folder / "small"
        place.mkdir()
        script = f'mount -t tmpfs -o size={size_mib}m none "$0" && exec "$@"'
        wrapper = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, str(place)]
        tried = subprocess.run([*wrapper, "true"], capture_output=True, text=True, timeout=START_SECONDS)
        if tried.returncode != 0:
            self.skipTest(f"this machine lets no one mount a tmpfs: {tried.stderr.strip()}")
        return place, wrapper

    def check_small_medium(self, device: str) -> None:
        place, wrapper = self.small_medium(160)
        # Without work ahead, which would take the space before the filler does.
        options = [f"--device={device}", "--spare-arenas=false"]
        server = self.start_server(*options, data_dir=place / "data", wrapper=wrapper)
        # The mount is the server's own: seen from here it lies below the server's root.
        inside = Path(f"/proc/{server.pid}/root{place}")
        with Wire(server.address) as wire:
            wire.push_all("kept", 1, self.kept)
            update = wire.begin("model", 1, [self.tensor])
            filler = inside / "filler"
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 96 * MIB)
            refusals = self.assert_push_fails(wire, update.update_id, self.tensor)
            self.assertLess(refusals, 96, "the part that fits must land")
            self.check_server_goes_on(server, wire, inside / "data")
            # With space again, the same update goes on from what had landed.
            filler.unlink()
            resumed = wire.begin("model", 1, [self.tensor])
            self.assertTrue(resumed.resumed)
            self.assertEqual(resumed.missing_bytes, refusals * MIB)
            (missing,) = resumed.missing
            for part in missing.ranges:
                for begin in range(part.begin, part.end, MIB):
                    wire.push(update.update_id, [chunk_of(self.tensor, begin, begin + MIB)])
            wire.commit("model", update.update_id)
            with self.open_version(inside / "data", "model") as file:
                self.assert_holds(file, [self.tensor])

    def test_a_full_tmpfs_in_mid_push(self) -> None:
        self.check_small_medium("host")

    def test_a_full_tmpfs_in_mid_push_through_staging(self) -> None:
        self.check_small_medium("host-staged")

    def test_no_space_at_begin(self) -> None:
        place, wrapper = self.small_medium(64)
        server = self.start_server(data_dir=place / "data", wrapper=wrapper)
        with Wire(server.address) as wire:
            wire.push_all("kept", 1, self.kept)
            source = write_safetensors(self.folder / "source.safetensors", [self.tensor])
            outcome = self.push(source, server.address, "model", code=1)
            self.assertIn("RESOURCE_EXHAUSTED", outcome.error)
            self.assertIn("are free", outcome.error)
            self.check_server_goes_on(server, wire, Path(f"/proc/{server.pid}/root{place}") / "data")

    def test_space_that_is_promised_to_one_update_is_not_promised_to_another(self) -> None:
        place, wrapper = self.small_medium(160)
        server = self.start_server(data_dir=place / "data", wrapper=wrapper)
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
    unittest.main()
