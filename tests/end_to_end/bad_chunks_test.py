"""Chunks and commits that no well-behaved client would send: each is refused by name, and harms nothing."""

from __future__ import annotations

from typing import Any

import grpc

from tests.end_to_end.bad_input import BadInputTest
from tests.end_to_end.checkpoints import random_tensor
from tests.end_to_end.wire import Wire, chunk_of, refused
from tools import python_cases

MIB = 1 << 20
# What the server allows for all of a chunk's message but the payload.
CHUNK_HEADER_BYTES = 64 << 10
# More than that part of an honest chunk takes here.
MESSAGE_HEADER_BYTES = 256
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


class Promises:
    """The cases; each class below runs them over another device."""

    class Cases(BadInputTest):
        def setUp(self) -> None:
            super().setUp()
            self.tensor = random_tensor(self.rng, "layer.weight", "F32", (100, 10))
            self.update = self.wire.begin("model", 1, [self.tensor])
            self.addCleanup(self.check_update_goes_on)

        def check_update_goes_on(self) -> None:
            """Whatever was refused, the honest bytes complete the update (unless the test ended it)."""
            if self.wire.model("model").current_version == 0:
                self.wire.push(self.update.update_id, [chunk_of(self.tensor)])
                self.wire.commit("model", self.update.update_id)
            self.assert_current(self.server, "model", [self.tensor])

        def send(self, *chunks: Any) -> Any:
            return self.wire.push(self.update.update_id, chunks)

        def test_an_unknown_update(self) -> None:
            with refused(self, grpc.StatusCode.NOT_FOUND, "no update", "nonsense", "begin it again"):
                self.wire.push("nonsense", [chunk_of(self.tensor)])

        def test_no_update_at_all(self) -> None:
            with refused(self, INVALID, "first chunk has no update_id"):
                self.wire.stub.Push(iter([chunk_of(self.tensor)]), timeout=30)

        def test_a_stream_without_a_chunk_is_no_error(self) -> None:
            # A sender with several streams cannot know that each will find something to do.
            response = self.wire.stub.Push(iter([]), timeout=30)
            self.assertEqual((response.chunks, response.bytes), (0, 0))

        def test_two_updates_in_one_stream(self) -> None:
            other = self.wire.begin("other", 1, [self.tensor]).update_id
            with refused(self, INVALID, "another update"):
                self.send(chunk_of(self.tensor, 0, 40), chunk_of(self.tensor, 40, 80, update_id=other))
            self.wire.abort("other", other)

        def test_an_unknown_tensor(self) -> None:
            with refused(self, INVALID, "layer.bias", "no such tensor"):
                self.send(chunk_of(self.tensor, name="layer.bias"))

        def test_a_contradicting_dtype(self) -> None:
            with refused(self, INVALID, "layer.weight", "I32", "F32"):
                self.send(chunk_of(self.tensor, dtype="I32"))

        def test_an_unknown_dtype(self) -> None:
            with refused(self, INVALID, "layer.weight", "FLOAT"):
                self.send(chunk_of(self.tensor, dtype="FLOAT"))

        def test_a_contradicting_shape(self) -> None:
            for shape in ((10, 100), (1000,), (), (100, 10, 1), (2**64 - 1, 2**64 - 1)):
                with self.subTest(shape=shape), refused(self, INVALID, "layer.weight", "[100, 10]"):
                    self.send(chunk_of(self.tensor, shape=shape))

        def test_more_bytes_than_the_tensor_has(self) -> None:
            data = self.tensor.data + b"more"
            with refused(self, INVALID, "layer.weight", "past the tensor's end"):
                self.send(chunk_of(self.tensor, data=data))

        def test_an_offset_past_the_end(self) -> None:
            # 2**63 and more are negative once cast to a signed number; the last ones overflow with the length.
            for offset in (4000, 4001, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 40, 2**64 - 1):
                with self.subTest(offset=offset), refused(self, INVALID, "layer.weight", "past the tensor's end"):
                    self.send(chunk_of(self.tensor, 0, 40, offset=offset))

        def test_a_chunk_over_the_bucket_limit(self) -> None:
            large = random_tensor(self.rng, "large", "U8", (2 * MIB,))
            update = self.wire.begin("large", 1, [large])
            self.assertEqual(update.bucket_limit_bytes, MIB)
            with refused(self, EXHAUSTED, "large", str(MIB + 1), str(MIB)):
                self.wire.push(update.update_id, [chunk_of(large, 0, MIB + 1)])
            self.wire.push(update.update_id, [chunk_of(large, 0, MIB), chunk_of(large, MIB)])
            self.wire.commit("large", update.update_id)

        def test_a_senders_own_smaller_bucket_limit_holds(self) -> None:
            update = self.wire.begin("small", 1, [self.tensor], bucket_limit_bytes=100)
            self.assertEqual(update.bucket_limit_bytes, 100)
            with refused(self, EXHAUSTED, "101", "100"):
                self.wire.push(update.update_id, [chunk_of(self.tensor, 0, 101)])
            self.wire.abort("small", update.update_id)

        def test_a_message_over_the_limit(self) -> None:
            huge = random_tensor(self.rng, "huge", "U8", (80 * MIB,))
            with refused(self, EXHAUSTED), Wire(self.server.address) as wire:
                wire.push(self.update.update_id, [chunk_of(huge)])

        def test_a_message_that_is_no_chunk(self) -> None:
            push = self.wire.channel.stream_unary("/weightstream.v1.WeightStream/Push")
            for message in (b"\xff\xff\xff", b"\x0a\x7fshort", b"\xa2\x06\xff\xff\xff\xff\x0fdata", b"\x00"):
                with self.subTest(message=message), refused(self, INVALID):
                    push(iter([message]), timeout=30)

        def test_a_wrong_checksum_is_healed_by_a_resend(self) -> None:
            data = bytearray(self.tensor.data[40:80])
            data[7] ^= 1
            with refused(self, grpc.StatusCode.DATA_LOSS, "layer.weight", "offset 40", "send it again"):
                self.send(chunk_of(self.tensor, 40, 80, data=bytes(data)))
            missing = self.wire.begin("model", 1, [self.tensor]).missing
            self.assertEqual([(r.begin, r.end) for m in missing for r in m.ranges], [(0, 4000)])
            self.send(chunk_of(self.tensor, 40, 80))
            missing = self.wire.begin("model", 1, [self.tensor]).missing
            self.assertEqual([(r.begin, r.end) for m in missing for r in m.ranges], [(0, 40), (80, 4000)])

        def test_no_checksum(self) -> None:
            with refused(self, INVALID, "layer.weight", "no crc32c"):
                self.send(chunk_of(self.tensor, crc32c=None))

        def test_a_repeat_with_other_bytes_does_not_change_what_landed(self) -> None:
            self.send(chunk_of(self.tensor))
            other = random_tensor(self.rng, "layer.weight", "F32", (100, 10))
            self.send(chunk_of(other))
            self.send(chunk_of(other, 100, 200), chunk_of(other, 150, 3000))

        def test_a_commit_before_everything_is_there(self) -> None:
            with refused(self, PRECONDITION, "4000 of 4000", "layer.weight"):
                self.wire.commit("model", self.update.update_id)
            self.send(chunk_of(self.tensor, 0, 3999))
            with refused(self, PRECONDITION, "1 of 4000", "[3999, 4000)"):
                self.wire.commit("model", self.update.update_id)

        def test_a_commit_of_an_unknown_update_or_model(self) -> None:
            with refused(self, grpc.StatusCode.NOT_FOUND, "nonsense"):
                self.wire.commit("model", "nonsense")
            with refused(self, grpc.StatusCode.NOT_FOUND, "nobody"):
                self.wire.commit("nobody", self.update.update_id)

        def test_a_commit_twice_answers_the_same(self) -> None:
            self.send(chunk_of(self.tensor))
            first = self.wire.commit("model", self.update.update_id)
            self.assertEqual(self.wire.commit("model", self.update.update_id), first)
            self.assertEqual((first.version, first.total_bytes), (1, 4000))

        def test_a_push_after_the_commit(self) -> None:
            self.send(chunk_of(self.tensor))
            self.wire.commit("model", self.update.update_id)
            with refused(self, PRECONDITION, "is committed", "higher version"):
                self.send(chunk_of(self.tensor))

        def test_an_abort_after_the_commit(self) -> None:
            self.send(chunk_of(self.tensor))
            self.wire.commit("model", self.update.update_id)
            with refused(self, PRECONDITION, "is committed"):
                self.wire.abort("model", self.update.update_id)

        def test_a_push_after_an_abort(self) -> None:
            other = self.wire.begin("other", 1, [self.tensor]).update_id
            self.wire.abort("other", other, "changed my mind")
            self.wire.abort("other", other)
            with refused(self, grpc.StatusCode.ABORTED, "changed my mind"):
                self.wire.push(other, [chunk_of(self.tensor)])
            with refused(self, grpc.StatusCode.ABORTED, "changed my mind"):
                self.wire.commit("other", other)

        def test_what_landed_before_a_refused_chunk_stays_landed(self) -> None:
            with refused(self, INVALID):
                self.send(chunk_of(self.tensor, 0, 400), chunk_of(self.tensor, 400, 800, dtype="I32"))
            resumed = self.wire.begin("model", 1, [self.tensor])
            self.assertTrue(resumed.resumed)
            self.assertEqual(resumed.missing_bytes, 3600)


class BadChunksOnHost(Promises.Cases):
    server_flags = ("--device=host",)


class BadChunksThroughStaging(Promises.Cases):
    server_flags = ("--device=host-staged",)


class MessageLimits:
    """To the byte: what is over the limit of messages gRPC refuses, and what is not, the server itself."""

    class Cases(BadInputTest):
        limit_bytes = 0

        def setUp(self) -> None:
            super().setUp()
            self.tensor = random_tensor(self.rng, "huge", "U8", (self.limit_bytes,))
            self.update = self.wire.begin("model", 1, [self.tensor])

        def message_of(self, size: int) -> Any:
            """A chunk whose message has exactly that many bytes: the longer the payload, the longer the whole."""
            chunk = chunk_of(self.tensor, 0, size - MESSAGE_HEADER_BYTES, update_id=self.update.update_id)
            more = size - chunk.ByteSize()
            chunk = chunk_of(self.tensor, 0, len(chunk.data) + more, update_id=self.update.update_id)
            self.assertEqual(chunk.ByteSize(), size)
            return chunk

        def check_update_goes_on(self) -> None:
            pieces = [chunk_of(self.tensor, at, at + MIB) for at in range(0, self.limit_bytes, MIB)]
            self.wire.push(self.update.update_id, pieces)
            self.wire.commit("model", self.update.update_id)
            self.assert_current(self.server, "model", [self.tensor])

        def test_a_byte_over_the_limit(self) -> None:
            size = self.limit_bytes + 1
            with refused(self, EXHAUSTED, f"larger than max ({size} vs. {self.limit_bytes})"):
                self.wire.push("", [self.message_of(size)])
            self.check_update_goes_on()

        def test_exactly_the_limit(self) -> None:
            chunk = self.message_of(self.limit_bytes)
            with refused(self, EXHAUSTED, "huge", f"carries {len(chunk.data)} bytes", f"the bucket limit of {MIB};"):
                self.wire.push("", [chunk])
            self.check_update_goes_on()


class ManifestsLimitMessages(MessageLimits.Cases):
    """As by default: a manifest may be larger than a chunk."""

    limit_bytes = 64 * MIB


class ChunksLimitMessages(MessageLimits.Cases):
    """A chunk, with what its header may take, may be larger than a manifest."""

    server_flags = ("--max-manifest-mib=1",)
    limit_bytes = MIB + CHUNK_HEADER_BYTES


if __name__ == "__main__":
    python_cases.main()
