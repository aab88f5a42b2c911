"""A receiver that fails at any step, lies, or falls silent: the command ends in time with the receiver's own words."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
from weightstream.v1 import weightstream_pb2 as ws

from tests.end_to_end.checkpoints import random_tensor, write_safetensors
from tests.end_to_end.fake_server import FakeServer, nothing_is_missing
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Outcome
from tools import python_cases

MIB = 1 << 20
TENSOR_BYTES = 4 * MIB

# The promise: an error within that long.
PROMISED_SECONDS = 30
# What most tests ask for instead, so as not to take that long each.
CLIENT_FLAGS = ("--stall-seconds=2", "--connect-seconds=2")


class MisbehavingReceiver(EndToEndTest):
    """A fake server fails in its own words; the command must end with these, whatever it does afterwards."""

    def setUp(self) -> None:
        super().setUp()
        tensor = random_tensor(np.random.default_rng(1), "tensor", "U8", (TENSOR_BYTES,))
        self.source = write_safetensors(self.folder / "source.safetensors", [tensor])

    def push_to(self, server: FakeServer, *flags: str, seconds: float = PROMISED_SECONDS) -> Outcome:
        arguments = ("push", self.source, f"--to={server.address}", "--model=model", "--version=1")
        outcome = self.weightstream(*arguments, *flags, code=1, seconds=seconds)
        print(outcome.error)
        self.assertIn(server.address, outcome.stderr)
        return outcome

    @staticmethod
    def failing_after(chunks: int, code: grpc.StatusCode, words: str) -> Any:
        def push(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            for number, _ in enumerate(requests, start=1):
                if number > chunks:
                    break
            context.abort(code, words)

        return push

    def test_fails_at_begin(self) -> None:
        def begin(_request: Any, context: grpc.ServicerContext) -> Any:
            context.abort(grpc.StatusCode.INTERNAL, "the arena caught fire")

        with FakeServer(self.failing_after(0, grpc.StatusCode.OK, ""), begin) as server:
            self.assertIn("INTERNAL: ", self.push_to(server).error)
            self.assertIn("the arena caught fire", self.push_to(server).error)
            self.assertEqual(server.chunks, 0)

    def test_fails_at_the_first_chunk(self) -> None:
        with FakeServer(self.failing_after(0, grpc.StatusCode.INTERNAL, "the first chunk is cursed")) as server:
            self.assertIn("the first chunk is cursed", self.push_to(server, "--connections=1").error)

    def test_fails_at_a_later_chunk(self) -> None:
        with FakeServer(self.failing_after(7, grpc.StatusCode.INVALID_ARGUMENT, "the eighth is cursed")) as server:
            outcome = self.push_to(server, "--connections=1")
            self.assertIn("INVALID_ARGUMENT", outcome.error)
            self.assertIn("the eighth is cursed", outcome.error)
            self.assertGreaterEqual(server.chunks, 8)

    def test_fails_one_of_several_streams(self) -> None:
        fail = self.failing_after(3, grpc.StatusCode.RESOURCE_EXHAUSTED, "the disk is full of eels")
        with FakeServer(fail) as server:
            outcome = self.push_to(server, "--connections=4")
            self.assertIn("the disk is full of eels", outcome.error)

    def test_loses_every_stream_again_and_again(self) -> None:
        with FakeServer(self.failing_after(2, grpc.StatusCode.UNAVAILABLE, "try me again")) as server:
            outcome = self.push_to(server, *CLIENT_FLAGS, "--max-attempts=3")
            self.assertIn("try me again", outcome.error)
            self.assertGreater(server.begins, 1)

    def test_fails_at_commit(self) -> None:
        def commit(request: Any, context: grpc.ServicerContext) -> Any:
            context.abort(grpc.StatusCode.INTERNAL, f"update {request.update_id} was eaten by moths")

        push = self.failing_after(0, grpc.StatusCode.INTERNAL, "pushed though nothing is missing")
        with FakeServer(push, nothing_is_missing, commit) as server:
            self.assertIn("INTERNAL: update fake was eaten by moths", self.push_to(server).error)
            self.assertEqual((server.commits, server.chunks), (1, 0))

    def test_knows_no_commit(self) -> None:
        push = self.failing_after(0, grpc.StatusCode.INTERNAL, "pushed though nothing is missing")
        with FakeServer(push, nothing_is_missing) as server:
            self.assertIn("UNIMPLEMENTED", self.push_to(server).error)
            self.assertEqual((server.commits, server.chunks), (1, 0))

    def test_answers_with_a_device_that_has_failed(self) -> None:
        class Failed(FakeServer):
            def ListModels(self, _request: Any, _context: grpc.ServicerContext) -> Any:
                sound = ws.Model(name="sound", device="cuda:0")
                failed = ws.Model(name="model", device="cuda:0", device_error="an illegal address\nstart it again")
                return ws.ListModelsResponse(models=[sound, failed])

        with Failed(self.failing_after(0, grpc.StatusCode.INTERNAL, "")) as server:
            outcome = self.weightstream("status", f"--to={server.address}", code=1)
            self.assertIn("FAILED_PRECONDITION", outcome.error)
            self.assertIn(f"{server.address}: its device cuda:0 has failed: an illegal address", outcome.error)
            models = outcome.json["servers"][0]["models"]
            self.assertEqual([model["name"] for model in models], ["sound", "model"], "it is shown all the same")

    def test_takes_nothing(self) -> None:
        closing = threading.Event()

        def push(_requests: Iterator[Any], _context: grpc.ServicerContext) -> Any:
            closing.wait(2 * PROMISED_SECONDS)
            raise AssertionError("the test is over")

        with FakeServer(push) as server:
            outcome = self.push_to(server, *CLIENT_FLAGS)
            closing.set()
            self.assertIn("DEADLINE_EXCEEDED", outcome.error)
            self.assertIn("no progress", outcome.error)

    def test_takes_everything_and_never_says_so(self) -> None:
        closing = threading.Event()

        def push(requests: Iterator[Any], _context: grpc.ServicerContext) -> Any:
            for _ in requests:
                pass
            closing.wait(2 * PROMISED_SECONDS)
            raise AssertionError("the test is over")

        with FakeServer(push) as server:
            outcome = self.push_to(server, *CLIENT_FLAGS)
            closing.set()
            self.assertIn("DEADLINE_EXCEEDED", outcome.error)

    def test_never_answers_begin(self) -> None:
        closing = threading.Event()

        def begin(_request: Any, context: grpc.ServicerContext) -> Any:
            closing.wait(3 * PROMISED_SECONDS)
            context.abort(grpc.StatusCode.INTERNAL, "the test is over")

        with FakeServer(self.failing_after(0, grpc.StatusCode.INTERNAL, ""), begin) as server:
            outcome = self.push_to(server, *CLIENT_FLAGS, seconds=PROMISED_SECONDS + 15)
            closing.set()
            self.assertIn("DEADLINE_EXCEEDED", outcome.error)

    def test_lies_about_what_is_missing(self) -> None:
        # Each lie is consistent but for what it is about, so that no other check can catch it.
        lies: dict[str, tuple[list[tuple[str, int, int]], int, str]] = {
            "a tensor that is none of ours": (
                [("stranger", 0, 1)],
                1,
                'it misses tensor "stranger", which the manifest does not hold',
            ),
            "one byte past the end": (
                [("tensor", 0, TENSOR_BYTES + 1)],
                TENSOR_BYTES + 1,
                f'it misses bytes up to {TENSOR_BYTES + 1} of tensor "tensor", which has {TENSOR_BYTES}',
            ),
            "a range far past the end": (
                [("tensor", 0, 2**63)],
                2**63,
                f'it misses bytes up to {2**63} of tensor "tensor", which has {TENSOR_BYTES}',
            ),
            "a range that ends before it begins": (
                [("tensor", 10, 5)],
                (5 - 10) % 2**64,
                'tensor "tensor": byte range [10, 5) ends before it begins',
            ),
            "a tensor twice": ([("tensor", 0, 5), ("tensor", 5, 10)], 10, 'tensor "tensor" is listed twice'),
            "another sum": ([("tensor", 0, 5)], 6, "the missing ranges add up to 5 bytes, not to 6"),
        }
        for what, (missing, missing_bytes, words) in lies.items():
            with self.subTest(what):
                begin = functools.partial(self.begin_with, missing, missing_bytes)
                push = self.failing_after(0, grpc.StatusCode.INTERNAL, "pushed all the same")
                with FakeServer(push, begin) as server:
                    sentence = f"INTERNAL: the server's answer to BeginUpdate makes no sense: {words}"
                    self.assertIn(sentence, self.push_to(server).error)
                    self.assertEqual((server.begins, server.chunks, server.commits), (1, 0, 0))

    @staticmethod
    def begin_with(
        missing: list[tuple[str, int, int]], missing_bytes: int, request: Any, context: grpc.ServicerContext
    ) -> Any:
        response = nothing_is_missing(request, context)
        for name, begin, end in missing:
            response.missing.add(name=name).ranges.add(begin=begin, end=end)
        response.missing_bytes = missing_bytes
        return response


if __name__ == "__main__":
    python_cases.main()
