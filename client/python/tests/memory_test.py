"""A whole push and a whole pull copy what they carry no more often than grpcio makes them: their memory shows it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from weightstream import Client, Version, pull, push
from weightstream.wire import decode_chunk

from tests.end_to_end.harness import EndToEndTest
from tools import python_cases

MIB = 1 << 20
# Large beside all else that a transfer needs, so that one more copy of it cannot be overlooked.
TENSOR_BYTES = 128 * MIB
CHUNK_BYTES = 16 * MIB
# Of a version that comes in one message.
SMALL_BYTES = MIB


def array_of(size: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(size).integers(0, 2**63, size // 8, np.int64)


def most_resident() -> int:
    """The most memory that this process had since it was reset, in bytes, whoever took it: gRPC's own too."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024


def measured(run: Callable[[], Any]) -> tuple[int, int]:
    """The most that Python's and NumPy's objects, and the whole process, held at once beyond what they held before."""
    Path("/proc/self/clear_refs").write_text("5")
    resident = most_resident()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1], most_resident() - resident
    finally:
        tracemalloc.stop()


class Memory(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        server = self.start_server("--bucket-mib=64", "--spare-arenas=false")
        self.client = Client(server.address, connections=1)
        self.addCleanup(self.client.close)
        # On a busy machine the server may seem far away, which takes several streams with a message each.
        near = mock.patch.object(push, "NEAR_ROUND_TRIP_SECONDS", 60)
        near.start()
        self.addCleanup(near.stop)
        self.large = array_of(TENSOR_BYTES)
        # What modules, threads and allocators take once.
        self.client.push("first", 1, {"weight": self.large[: TENSOR_BYTES // 32]})
        self.client.pull("first")

    def test_a_push_holds_the_message_that_goes_and_the_one_being_made(self) -> None:
        traced, resident = measured(
            lambda: self.client.push("model", 1, {"weight": self.large}, chunk_bytes=CHUNK_BYTES)
        )
        self.assertGreater(traced, CHUNK_BYTES, "the message is counted")
        self.assertLess(traced, CHUNK_BYTES * 5 // 2, "a payload is copied once more than into its message")
        self.assertLess(resident, TENSOR_BYTES * 3 // 4, "the whole tensor is copied")

    def test_a_copied_tensor_is_held_once_more_and_no_more(self) -> None:
        transposed = self.large.reshape(1024, -1).T
        traced, _ = measured(lambda: self.client.push("model", 1, {"weight": transposed}, chunk_bytes=CHUNK_BYTES))
        self.assertGreater(traced, TENSOR_BYTES)
        self.assertLess(traced, TENSOR_BYTES + CHUNK_BYTES * 5 // 2)

    def test_a_pull_into_the_callers_memory_holds_a_few_messages(self) -> None:
        self.client.push("model", 1, {"weight": self.large})
        into = {"weight": np.ones_like(self.large)}
        traced, resident = measured(lambda: self.client.pull("model", into=into))
        self.assertTrue(np.array_equal(into["weight"], self.large))
        self.assertLess(traced, TENSOR_BYTES // 8)
        self.assertLess(resident, TENSOR_BYTES // 2, "the whole tensor is copied")

    def test_a_pull_holds_what_it_returns_and_a_few_messages(self) -> None:
        self.client.push("model", 1, {"weight": self.large})
        pulled: list[Version] = []
        traced, resident = measured(lambda: pulled.append(self.client.pull("model")))
        self.assertEqual(bytes(pulled[0]["weight"].data[-9:]), self.large.tobytes()[-9:])
        self.assertGreater(traced, TENSOR_BYTES)
        self.assertLess(traced, TENSOR_BYTES * 9 // 8)
        self.assertLess(resident, TENSOR_BYTES * 3 // 2, "the whole tensor is copied")

    def test_a_pulled_payload_is_copied_once(self) -> None:
        """Of one message, once grpcio has handed it over: what it reads ahead and joins would hide a copy of ours."""
        array = array_of(SMALL_BYTES)
        self.client.push("model", 1, {"weight": array})
        into = {"weight": np.zeros_like(array)}

        def handed_over(message: bytes) -> Any:
            tracemalloc.reset_peak()
            return decode_chunk(message)

        with mock.patch.object(pull, "decode_chunk", handed_over):
            traced, _ = measured(lambda: self.client.pull("model", into=into))
        self.assertEqual(into["weight"].tobytes(), array.tobytes())
        self.assertGreater(traced, SMALL_BYTES, "the message is counted")
        self.assertLess(traced, SMALL_BYTES * 3 // 2, "a payload is copied once more than into its tensor")


if __name__ == "__main__":
    python_cases.main()
