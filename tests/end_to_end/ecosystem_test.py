"""The standard parts that tools of the gRPC ecosystem ask for: health per model, and reflection."""

from __future__ import annotations

from typing import Any

import grpc

from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import CALL_SECONDS, Wire, refused
from tools import python_cases

# grpc.health.v1.HealthCheckResponse, whole: field 1, a number.
UNKNOWN_SERVICE = b"\x08\x03"
SERVING = b"\x08\x01"
NOT_SERVING = b"\x08\x02"


def text_field(number: int, text: str) -> bytes:
    """A protobuf field of text shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(text)]) + text.encode()


class Health(EndToEndTest):
    def check(self, wire: Wire, service: str) -> bytes:
        call: Any = wire.channel.unary_unary("/grpc.health.v1.Health/Check")
        answer: bytes = call(text_field(1, service) if service else b"", timeout=CALL_SECONDS)
        return answer

    def test_the_server_serves_and_a_model_once_a_version_is_current(self) -> None:
        server = self.start_server()
        with Wire(server.address) as wire:
            self.assertEqual(self.check(wire, ""), SERVING)
            with refused(self, grpc.StatusCode.NOT_FOUND):
                self.check(wire, "model")
            update = wire.begin("model", 1)
            with refused(self, grpc.StatusCode.NOT_FOUND):
                self.check(wire, "model")
            wire.commit("model", update.update_id)
            self.assertEqual(self.check(wire, "model"), SERVING)
        server.stop()
        # Recovered versions serve from the start.
        with Wire(self.start_server().address) as wire:
            self.assertEqual(self.check(wire, "model"), SERVING)

    def test_a_watch_sees_a_model_come_and_the_shutdown(self) -> None:
        server = self.start_server()
        with Wire(server.address) as wire:
            call: Any = wire.channel.unary_stream("/grpc.health.v1.Health/Watch")
            watch = call(text_field(1, "model"), timeout=CALL_SECONDS)
            self.assertEqual(next(watch), UNKNOWN_SERVICE)
            wire.push_all("model", 1, [])
            self.assertEqual(next(watch), SERVING)
            server.signal(15)
            wait_until(lambda: "shutting_down" in server.log(), "the server begins to shut down")
            self.assertEqual(next(watch), NOT_SERVING)
            watch.cancel()
            self.assertEqual(server.wait(40), 0)


class Reflection(EndToEndTest):
    def test_it_lists_and_describes_the_service(self) -> None:
        server = self.start_server()
        with Wire(server.address) as wire:
            call: Any = wire.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
            requests = [text_field(7, "*"), text_field(4, "weightstream.v1.WeightStream")]
            listing, description = call(iter(requests), timeout=CALL_SECONDS)
            self.assertIn(b"weightstream.v1.WeightStream", listing)
            self.assertIn(b"grpc.health.v1.Health", listing)
            for name in (b"BeginUpdate", b"WeightChunk", b"crc32c"):
                self.assertIn(name, description)


if __name__ == "__main__":
    python_cases.main()
