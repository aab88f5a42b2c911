"""A tensor of 5 GiB arrives, and the server's own memory stays within staging and a constant meanwhile."""

from __future__ import annotations

import numpy as np

from tests.end_to_end.checkpoints import write_sparse
from tests.end_to_end.harness import SHM, EndToEndTest
from tests.end_to_end.processes import Command, Memory, Server
from tests.end_to_end.safetensors_file import SafetensorsFile
from tests.end_to_end.waiting import wait_until
from tools import python_cases

MIB = 1 << 20
GIB = 1 << 30
# Of BF16.
BYTES_PER_ELEMENT = 2
STAGING_BYTES = 64 * MIB
# What the server may need beyond its arena and the staging memory, whatever the model's size.
CONSTANT_BYTES = 64 * MIB
# Only a device that cannot be written from here has a staging ring.
MOST_ANONYMOUS_BYTES = {"host": CONSTANT_BYTES, "host-staged": STAGING_BYTES + CONSTANT_BYTES}
# How much of the arena must have been seen at once, so that it is certain that the arena is what is counted apart.
LEAST_SHARED = 0.95
FILE_GROWTH_BYTES = 8 * MIB
ISLAND_BYTES = 4096
COMPARED_AT_ONCE = 64 * MIB
SEED = 5


class OneHugeTensor(EndToEndTest):
    def islands(self, size: int) -> dict[int, bytes]:
        """Bytes that are not zero: at both ends, across the 32-bit borders, and at seeded places."""
        rng = np.random.default_rng(SEED)
        borders = [border - 1000 for border in range(GIB, size - ISLAND_BYTES, GIB)]
        places = [0, size - ISLAND_BYTES, *borders, *(int(at) for at in rng.integers(0, size - ISLAND_BYTES, 200))]
        return {at: rng.bytes(ISLAND_BYTES) for at in places}

    def sample(self, server: Server, command: Command) -> Memory:
        """The most of each kind of memory that the server had while the command ran."""
        peak = server.memory()

        def ended() -> bool:
            nonlocal peak
            now = server.memory()
            peak = Memory(max(peak.anonymous, now.anonymous), max(peak.file, now.file), max(peak.shared, now.shared))
            return not command.running()

        wait_until(ended, "the push ends", 300, poll=0.02)
        return peak

    def compare(self, left: SafetensorsFile, right: SafetensorsFile, name: str) -> None:
        left_bytes, right_bytes = (np.frombuffer(file.data(name), dtype=np.uint8) for file in (left, right))
        self.assertEqual(left_bytes.size, right_bytes.size)
        for at in range(0, left_bytes.size, COMPARED_AT_ONCE):
            part = slice(at, at + COMPARED_AT_ONCE)
            self.assertTrue(np.array_equal(left_bytes[part], right_bytes[part]), f"a difference after byte {at}")
        # The files can be closed only when nothing looks into them.
        del left_bytes, right_bytes

    def check(self, device: str, elements: int) -> None:
        islands = self.islands(elements * BYTES_PER_ELEMENT)
        source = write_sparse(self.folder / "huge.safetensors", "huge", "BF16", (elements,), islands)
        server = self.start_server(f"--device={device}", f"--staging-mib={STAGING_BYTES // MIB}")
        before = server.memory()
        command = self.start_command("push", source, f"--to={server.address}", "--model=huge")
        peak = self.sample(server, command)
        outcome = command.outcome()
        self.assertEqual(outcome.code, 0, outcome.stderr)
        rate = outcome.json["servers"][0]["bytes_per_second"] / 1e9
        print(f"{device}: {rate:.2f} GB/s, before {before}, peak {peak}")
        if not server.sanitized():
            self.assertLess(peak.anonymous, MOST_ANONYMOUS_BYTES[device], "memory beyond the arena")
            # Pages of the program and its libraries are there from the start, and do not grow with the model.
            self.assertLess(peak.file - before.file, FILE_GROWTH_BYTES)
            # Were the arena not counted apart, there would be nothing to count.
            self.assertGreaterEqual(peak.shared, LEAST_SHARED * elements * BYTES_PER_ELEMENT)
        verified = self.weightstream("verify", source, f"--to={server.address}", "--model=huge")
        self.assertTrue(verified.json["equal"])
        with self.open_version(server.data_dir, "huge") as held, SafetensorsFile(source) as sent:
            self.compare(held, sent, "huge")

    def test_five_gib_on_the_host(self) -> None:
        self.check("host", 5 * GIB // 2 + 1)

    def test_three_gib_through_staging(self) -> None:
        self.check("host-staged", 3 * GIB // 2 + 1)


if __name__ == "__main__":
    assert SHM.is_dir()
    python_cases.main()
