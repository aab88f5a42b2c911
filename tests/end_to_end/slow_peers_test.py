"""Who is slow on purpose keeps nobody out: senders that drip, readers that grant no window."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
from weightstream.v1 import weightstream_pb2 as ws

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server
from tests.end_to_end.raw_http2 import Windowless
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import Wire, chunk_of, refused
from tools import python_cases

MIB = 1 << 20
# Other hosts, as far as the server can see.
ELSEWHERE = "127.0.0.2"
THIRD = "127.0.0.3"


class SlowPeersTest(EndToEndTest):
    def tensors(self, seed: int = 5) -> list[Tensor]:
        rng = np.random.default_rng(seed)
        return [random_tensor(rng, f"tensor.{i}", "BF16", (MIB,)) for i in range(4)]

    def await_push(self, server: Server, address: str, model: str) -> None:
        """An update through this address completes as soon as the server has seen who is slow."""
        source = write_safetensors(self.folder / f"{model}.safetensors", self.tensors())
        failures = []

        def pushed() -> bool:
            outcome = self.start_command("push", source, f"--to={address}", f"--model={model}", "--version=1").outcome()
            failures.append(outcome.error)
            return outcome.code == 0

        wait_until(pushed, "an update completes beside the slow ones", seconds=90, poll=0.2)
        for failure in failures[:-1]:
            self.assertIn("RESOURCE_EXHAUSTED", failure)
        self.assert_current(server, model, self.tensors())


class Senders(SlowPeersTest):
    def setUp(self) -> None:
        super().setUp()
        self._enough = threading.Event()
        self.addCleanup(self._enough.set)

    def drip(self, wire: Wire, model: str, streams: int) -> list[Any]:
        """Streams of one update, each of which sends a byte several times a second, for as long as the test lasts."""
        big = self.tensors(seed=6)[0]
        update = wire.begin(model, 1, [big])

        def bytes_now_and_then(first: int) -> Iterator[Any]:
            at = first
            while True:
                chunk = chunk_of(big, at, at + 1)
                chunk.update_id = update.update_id
                yield chunk
                at += 1
                if self._enough.wait(0.2):
                    return

        return [wire.stub.Push.future(bytes_now_and_then(i * 1000), timeout=120) for i in range(streams)]

    def test_an_update_that_drips_keeps_no_place(self) -> None:
        server = self.start_server("--max-updates=1", "--silent-stream-seconds=5")
        with Wire(server.address) as wire:
            (dripping,) = self.drip(wire, "slow", 1)
            self.await_landed(server, "slow")
            self.await_push(server, server.address, "quick")
            self.assertEqual(dripping.code(), grpc.StatusCode.ABORTED, dripping.details())
            self.assertIn("--least-kib-per-second", dripping.details())
            self.assertIn("another update needed its place", dripping.details())
            self._enough.set()

    def test_two_peers_that_drip_on_all_streams_keep_nobody_out(self) -> None:
        # Of 24 streams each of the two has as many as it may.
        server = self.start_server("--max-threads=32", "--max-peer-streams=12", "--silent-stream-seconds=5")
        other = self.start_proxy(server, source=ELSEWHERE)
        third = self.start_proxy(server, source=THIRD)
        with Wire(server.address) as wire, Wire(other.address) as elsewhere:
            streams = self.drip(wire, "slow", 12) + self.drip(elsewhere, "slower", 12)

            def open_streams() -> int:
                models = wire.stub.ListModels(ws.ListModelsRequest(), timeout=30).models
                return sum(update.open_streams for model in models for update in model.updates)

            wait_until(lambda: open_streams() == 24, "all streams are taken")
            self.await_push(server, third.address, "quick")
            cut = [each for each in streams if each.done()]
            self.assertLess(len(cut), len(streams), "no more give way than are needed")
            for each in cut:
                self.assertEqual(each.code(), grpc.StatusCode.UNAVAILABLE, each.details())
                self.assertIn("another stream needed its place", each.details())
            self._enough.set()


class Readers(SlowPeersTest):
    def commit_one(self, server: Server) -> bytes:
        with Wire(server.address) as wire:
            wire.push_all("model", 1, self.tensors()[:1])
        return ws.GetModelRequest(model="model").SerializeToString()

    def test_replies_that_are_not_taken_leave_threads_for_others(self) -> None:
        server = self.start_server("--max-threads=32", "--silent-stream-seconds=600")
        request = self.commit_one(server)
        other = self.start_proxy(server, source=ELSEWHERE)
        with Windowless(server.address) as stingy:
            # More than there are threads, and again once most have gone; HTTP/2 allows a hundred at once.
            made = [stingy.call("GetModel", request) for _ in range(90)]
            wait_until(lambda: len(stingy.ended()) >= 60, "they are refused or cut")
            made += [stingy.call("GetModel", request) for _ in range(60)]
            wait_until(lambda: len(stingy.ended()) >= 120, "so are the next")
            self.await_push(server, other.address, "quick")
            with Wire(other.address) as wire:
                self.assertEqual(wire.model("model").current_version, 1)
            self.assertLess(len(stingy.ended()), len(made), "the first ones have their time")

    def test_one_peer_has_not_all_watches(self) -> None:
        # Half of 24 streams, and five sixths of those.
        server = self.start_server("--max-threads=32")
        other = self.start_proxy(server, source=ELSEWHERE)
        request = ws.WatchModelRequest(model="model")
        with Wire(server.address) as wire, Wire(other.address) as elsewhere:
            watches = [wire.stub.WatchModel(request, timeout=60) for _ in range(10)]
            watches += [elsewhere.stub.WatchModel(request, timeout=60) for _ in range(2)]
            for watch in watches:
                next(watch)
            for over, words in ((wire, "serves 12 watches and leases"), (elsewhere, "serves 12 watches and leases")):
                with refused(self, grpc.StatusCode.RESOURCE_EXHAUSTED, words, "--max-threads"):
                    next(over.stub.WatchModel(request, timeout=60))
            watches.pop().cancel()

            def refusal() -> str:
                try:
                    next(wire.stub.WatchModel(request, timeout=60))
                except grpc.RpcError as error:
                    raised: Any = error
                    return str(raised.details())
                return "it is served"

            wait_until(lambda: "one peer 10 watches and leases" in refusal(), "there is a place, and not for this peer")
            for watch in watches:
                watch.cancel()
        self.await_push(server, other.address, "quick")

    def test_a_reply_that_is_not_taken_is_cut(self) -> None:
        server = self.start_server("--silent-stream-seconds=2")
        request = self.commit_one(server)
        with Windowless(server.address) as stingy:
            made = {
                stingy.call("GetModel", request),
                stingy.call("ListModels", b""),
                stingy.call("Pull", ws.PullRequest(model="model").SerializeToString()),
                stingy.call("WatchModel", ws.WatchModelRequest(model="model").SerializeToString()),
            }
            wait_until(lambda: stingy.ended() == made, "each is cut")

    def test_the_end_of_a_push_is_cut_as_well(self) -> None:
        server = self.start_server("--silent-stream-seconds=2")
        tensor = self.tensors()[0]
        with Wire(server.address) as wire, Windowless(server.address) as stingy:
            update = wire.begin("model", 1, [tensor])
            chunk = chunk_of(tensor, 0, 1000)
            chunk.update_id = update.update_id
            stream = stingy.call("Push", chunk.SerializeToString())
            wait_until(lambda: stingy.ended() == {stream}, "it is cut")
            self.assertEqual(wire.model("model").updates[0].landed_bytes, 1000, "what landed has landed")


if __name__ == "__main__":
    python_cases.main()
