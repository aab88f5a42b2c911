"""A lost connection, process or reply costs the chunks in flight, and never the truth."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import grpc
import numpy as np
import weightstream
from weightstream import Client, Limits, Progress, UpdateState, push_round

from client.python.tests.interposer import Hook, Interposer
from tests.end_to_end.checkpoints import Tensor
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server
from tests.end_to_end.waiting import wait_until
from tools import python_cases

MIB = 1 << 20
# Many small messages: whoever is stopped in the middle of a push has some on either side.
CHUNK_BYTES = 64 << 10

# What another process pushes: the seed makes the same bytes in each.
SENDER = """
import sys, numpy as np, weightstream
weights = {"weight": np.random.default_rng(9).standard_normal((1024, 1024))}
with weightstream.Client(sys.argv[1]) as client:
    client.push("model", None, weights, source_id="run 9", chunk_bytes=65536)
"""


class ResumeTest(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        self.weights = {"weight": np.random.default_rng(9).standard_normal((1024, 1024))}
        self.total = self.weights["weight"].nbytes
        self.tensors = [Tensor("weight", "F64", (1024, 1024), self.weights["weight"].tobytes())]

    def interpose(self, server: Server, **hooks: Hook) -> Interposer:
        between = Interposer(server.address, hooks)
        self.addCleanup(between.close)
        return between

    def in_background(self, run: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
        outcome: list[Any] = []

        def keep() -> None:
            try:
                outcome.append(run())
            except weightstream.WeightStreamError as error:
                outcome.append(error)

        thread = threading.Thread(target=keep)
        thread.start()
        self.addCleanup(thread.join)
        return thread, outcome


class Lost(ResumeTest):
    def test_a_cut_connection_costs_the_chunks_in_flight(self) -> None:
        server = self.start_server()
        proxy = self.start_proxy(server, 4 * MIB)
        client = Client(proxy.address)
        self.addCleanup(client.close)
        thread, outcome = self.in_background(lambda: client.push("model", 1, self.weights, chunk_bytes=CHUNK_BYTES))
        self.await_landed(server, "model", 2 * MIB)
        self.assertGreaterEqual(proxy.cut(), 1)
        proxy.allow(None)
        thread.join()
        result = outcome[0]
        self.assertIsInstance(result, weightstream.PushResult, result)
        self.assertGreaterEqual(result.retries, 1)
        # Had it begun from nothing, it would have sent all of it after the cut.
        self.assertLess(result.sent_bytes, self.total + 4 * MIB)
        self.assert_current(server, "model", self.tensors)

    def test_a_killed_process_is_resumed_by_the_next_of_the_same_source(self) -> None:
        server = self.start_server()
        proxy = self.start_proxy(server, 3 * MIB)
        sender = subprocess.Popen([sys.executable, "-c", SENDER, proxy.address], env={"PYTHONPATH": ":".join(sys.path)})
        try:
            self.await_landed(server, "model", MIB)
        finally:
            sender.kill()
            sender.wait()
        with Client(server.address) as client:
            result = client.push("model", None, self.weights, source_id="run 9")
        self.assertEqual(result.version, 1)
        self.assertGreaterEqual(result.resumed_bytes, MIB)
        self.assertEqual(result.sent_bytes + result.resumed_bytes, self.total)
        self.assert_current(server, "model", self.tensors)

    def test_another_source_begins_from_nothing(self) -> None:
        server = self.start_server()
        # On a line that lets no more than half of it pass: it cannot be done before it is stopped.
        first = Client(self.start_proxy(server, 4 * MIB).address)
        self.addCleanup(first.close)
        stop = threading.Event()

        def stop_in_the_middle(progress: Progress) -> None:
            if progress.moved_bytes > MIB:
                stop.set()

        with self.assertRaises(weightstream.CancelledError):
            first.push(
                "model", 1, self.weights, source_id="one", progress=stop_in_the_middle, cancel=stop, chunk_bytes=4096
            )
        with Client(server.address) as client:
            result = client.push("model", 1, self.weights, source_id="two")
        self.assertEqual((result.resumed_bytes, result.sent_bytes), (0, self.total))
        self.assert_current(server, "model", self.tensors)

    def test_a_server_that_is_started_again_is_awaited(self) -> None:
        server = self.start_server(listen=self.reserve_address())
        proxy = self.start_proxy(server, 3 * MIB)
        client = Client(proxy.address)
        self.addCleanup(client.close)
        thread, outcome = self.in_background(lambda: client.push("model", 1, self.weights, chunk_bytes=CHUNK_BYTES))
        self.await_landed(server, "model", MIB)
        server.kill()
        again = self.start_server(data_dir=server.data_dir, listen=server.address)
        proxy.allow(None)
        thread.join()
        self.assertIsInstance(outcome[0], weightstream.PushResult, outcome)
        self.assert_current(again, "model", self.tensors)


class LostReply(ResumeTest):
    def test_a_commit_whose_reply_was_lost_is_asked_for_again(self) -> None:
        def lose_the_first(before: int, request: Any, pass_on: Callable[[Any], Any], context: Any) -> Any:
            reply = pass_on(request)
            if before == 0:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the line was cut")
            return reply

        server = self.start_server()
        between = self.interpose(server, CommitUpdate=lose_the_first)
        with Client(between.address) as client:
            result = client.push("model", 1, self.weights)
        self.assertEqual(between.calls["CommitUpdate"], 2)
        self.assertEqual(result.sent_bytes, self.total)
        self.assert_current(server, "model", self.tensors)

    def test_a_server_that_forgot_the_update_is_asked_whether_it_has_the_bytes(self) -> None:
        def forget(before: int, request: Any, pass_on: Callable[[Any], Any], context: Any) -> Any:
            reply = pass_on(request)
            if before == 0:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such update")
            return reply

        server = self.start_server()
        between = self.interpose(server, CommitUpdate=forget)
        with Client(between.address) as client:
            result = client.push("model", 1, self.weights)
        self.assertEqual((between.calls["DigestModel"], between.calls["CommitUpdate"]), (1, 1))
        self.assertEqual(result.path, str(server.data_dir / "model" / "1" / "model.safetensors"))

    def test_the_same_number_with_other_bytes_is_no_success(self) -> None:
        server = self.start_server()

        def commit_others(before: int, request: Any, pass_on: Callable[[Any], Any], context: Any) -> Any:
            with Client(server.address) as other:
                other.push("model", 1, {"weight": np.zeros((1024, 1024))})
            context.abort(grpc.StatusCode.NOT_FOUND, "no such update")

        between = self.interpose(server, CommitUpdate=commit_others)
        with (
            Client(between.address) as client,
            self.assertRaisesRegex(weightstream.AlreadyExistsError, "other bytes.*weight.*differ"),
        ):
            client.push("model", 1, self.weights)


class Damaged(ResumeTest):
    def test_a_damaged_chunk_is_sent_again(self) -> None:
        def damage(before: int, chunks: Iterator[Any], pass_on: Callable[[Any], Any], context: Any) -> Any:
            def damaged() -> Iterator[Any]:
                for number, chunk in enumerate(chunks):
                    if (before, number) == (0, 0):
                        chunk.data = bytes([chunk.data[0] ^ 1]) + chunk.data[1:]
                    yield chunk

            return pass_on(damaged())

        server = self.start_server()
        between = self.interpose(server, Push=damage)
        with Client(between.address, connections=1) as client:
            result = client.push("model", 1, self.weights)
        self.assertEqual(result.retries, 1)
        self.assertGreaterEqual(between.calls["Push"], 2)
        self.assert_current(server, "model", self.tensors)

    def test_damage_that_does_not_end_is_data_loss(self) -> None:
        def damage(before: int, chunks: Iterator[Any], pass_on: Callable[[Any], Any], context: Any) -> Any:
            def damaged() -> Iterator[Any]:
                for chunk in chunks:
                    chunk.crc32c ^= 1
                    yield chunk

            return pass_on(damaged())

        server = self.start_server()
        between = self.interpose(server, Push=damage)
        with (
            Client(between.address) as client,
            self.assertRaisesRegex(weightstream.DataLossError, "gave up after 5 attempts.*weight"),
        ):
            client.push("model", 1, self.weights)
        self.abort_all(server)

    def test_a_damaged_answer_is_asked_for_again(self) -> None:
        def damage(before: int, request: Any, pass_on: Callable[[Any], Any], context: Any) -> Iterator[Any]:
            for number, chunk in enumerate(pass_on(request)):
                if (before, number) == (0, 1):
                    chunk.crc32c ^= 1
                yield chunk

        server = self.start_server()
        between = self.interpose(server, Pull=damage)
        with Client(between.address) as client:
            client.push("model", 1, self.weights)
            pulled = client.pull("model")
        self.assertEqual(between.calls["Pull"], 2)
        self.assertEqual(pulled["weight"].data.tobytes(), self.weights["weight"].tobytes())

    def abort_all(self, server: Server) -> None:
        """A server that is told to end waits for updates in flight."""
        with Client(server.address) as client:
            client.push("model", 99, {})


class Stuck(ResumeTest):
    def test_a_server_that_takes_no_data_is_given_up(self) -> None:
        def take_nothing(before: int, chunks: Iterator[Any], pass_on: Callable[[Any], Any], context: Any) -> Any:
            cancelled = threading.Event()
            context.add_callback(cancelled.set)
            cancelled.wait(60)
            context.abort(grpc.StatusCode.CANCELLED, "the test has ended")

        server = self.start_server()
        between = self.interpose(server, Push=take_nothing)
        with (
            Client(between.address, limits=Limits(stall=0.5)) as client,
            self.assertRaisesRegex(weightstream.DeadlineExceededError, "takes no data.*0.5 seconds"),
        ):
            client.push("model", 1, {"weight": np.zeros(4 * MIB)})
        with Client(server.address) as client:
            client.push("model", 99, {})

    def test_a_tensor_that_cannot_be_read_fails_with_its_own_error(self) -> None:
        server = self.start_server()
        before = set(threading.enumerate())
        with Client(server.address) as client:
            failure = MemoryError("the device fell off the bus")
            with (
                mock.patch.object(push_round, "encode_chunk", side_effect=failure),
                self.assertRaisesRegex(MemoryError, "fell off the bus"),
            ):
                client.push("model", 1, self.weights)
            states = {update.state for update in client.model("model").updates}
            self.assertEqual(states, {UpdateState.RECEIVING})
            client.push("model", 2, {})
        wait_until(lambda: not set(threading.enumerate()) - before, "grpcio's threads end")


if __name__ == "__main__":
    python_cases.main()
