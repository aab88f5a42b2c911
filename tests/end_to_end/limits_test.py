"""Limits on who connects: at each limit and one over it; who says nothing, or next to nothing, is in nobody's way."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from weightstream.v1 import weightstream_pb2 as ws

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server, binary
from tests.end_to_end.waiting import is_closed, wait_until
from tests.end_to_end.wire import Wire, chunk_of, refused
from tools import python_cases

MIB = 1 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
# Another host, as far as the server can see.
ELSEWHERE = "127.0.0.2"
# More than the server lets wait to speak, more than it lets one peer have, and more than it has threads.
CROWD = 700
# For streams that say nothing and are to stay.
NEVER_SILENT = "--silent-stream-seconds=600"
# A chunk of a MiB takes a quarter of an hour.
SLOW = "--max-peer-mib-per-second=0.001"


def connect(server: Server) -> socket.socket:
    if server.address.startswith("unix:"):
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.connect(server.address.removeprefix("unix:"))
        return plain
    host, port = server.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30)


class LimitsTest(EndToEndTest):
    def tensors(self, count: int = 4) -> list[Tensor]:
        rng = np.random.default_rng(5)
        return [random_tensor(rng, f"tensor.{i}", "BF16", (2 * MIB,)) for i in range(count)]

    def check_push(self, server: Server, model: str = "model", version: int = 1) -> None:
        """An update from here completes, and is what was sent."""
        source = write_safetensors(self.folder / f"{model}-{version}.safetensors", self.tensors())
        self.push(source, server.address, model, f"--version={version}")
        self.assert_current(server, model, self.tensors())

    def check_push_once_streams_are_let_go(self, server: Server, version: int = 1) -> None:
        """As check_push. A stream that was cancelled or cut is over for us at once, and counted as one of its peer
        until the server has noticed: until then, and for no other reason, an update may be refused.
        """
        source = write_safetensors(self.folder / f"model-{version}.safetensors", self.tensors())

        def pushed() -> bool:
            words = (f"--to={server.address}", "--model=model", f"--version={version}")
            outcome = self.start_command("push", source, *words).outcome()
            self.assertTrue(outcome.code == 0 or "--max-peer-streams" in outcome.error, outcome.error)
            return outcome.code == 0

        wait_until(pushed, "the server lets go of streams that are over", poll=0.1)
        self.assert_current(server, "model", self.tensors())

    def crowd(self, server: Server, size: int) -> list[socket.socket]:
        plain = [connect(server) for _ in range(size)]
        for each in plain:
            self.addCleanup(each.close)
        return plain

    @contextlib.contextmanager
    def connected(self, address: str, count: int) -> Iterator[list[Wire]]:
        """That many connections, each of which the server has answered on."""
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(address)) for _ in range(count)]
            for wire in wires:
                wire.stub.ListModels(ws.ListModelsRequest(), timeout=30)
            yield wires

    @staticmethod
    def answers(wire: Wire) -> bool:
        try:
            wire.stub.ListModels(ws.ListModelsRequest(), timeout=30)
        except grpc.RpcError:
            return False
        return True

    def answers_anew(self, server: Server) -> bool:
        with Wire(server.address) as wire:
            return self.answers(wire)


class Connections(LimitsTest):
    def test_a_crowd_that_says_nothing_is_in_nobodys_way(self) -> None:
        server = self.start_server("--handshake-seconds=5")
        crowd = self.crowd(server, CROWD)
        self.check_push(server)
        self.assertLess(len(server.connections()), CROWD, "those that would be too many were closed")
        wait_until(lambda: all(is_closed(each) for each in crowd), "who says nothing is closed")
        self.check_push(server, version=2)

    def test_a_crowd_at_a_unix_socket_neither(self) -> None:
        # Short: a socket's path has 107 bytes at most, and a sandbox's folders are deep.
        path = self.shared_memory / "s"
        server = self.start_server("--handshake-seconds=5", listen=f"unix:{path}")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o660)
        crowd = self.crowd(server, CROWD)
        self.check_push(server)
        wait_until(lambda: all(is_closed(each) for each in crowd), "who says nothing is closed")
        self.check_push(server, version=2)
        self.assertTrue(path.is_socket())
        server.stop()
        self.assertFalse(path.exists())

    def test_a_byte_a_second_is_as_good_as_nothing(self) -> None:
        server = self.start_server("--handshake-seconds=5")
        crowd = self.crowd(server, 200)
        stop = threading.Event()

        def drip() -> None:
            for byte in PREFACE:
                for each in crowd:
                    with contextlib.suppress(OSError):
                        each.send(bytes([byte]))
                if stop.wait(1):
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            for version in (1, 2, 3):
                self.check_push(server, version=version)
            # Long before they will have said all that they have to say.
            wait_until(lambda: all(is_closed(each) for each in crowd), "who is too slow is closed", seconds=20)
        finally:
            stop.set()
            dripping.join()

    def test_who_begins_to_speak_and_stops_is_closed(self) -> None:
        server = self.start_server("--handshake-seconds=2")
        for words in (b"x", PREFACE[:-1], PREFACE, PREFACE + b"\0\0\6\4\0\0\0\0\0\0"):
            with self.subTest(words=words):
                (plain,) = self.crowd(server, 1)
                plain.sendall(words)
                wait_until(functools.partial(is_closed, plain), "the connection is closed")

    def test_a_peer_has_so_many_and_no_more(self) -> None:
        server = self.start_server("--max-peer-connections=3")
        other = self.start_proxy(server, source=ELSEWHERE)
        with self.connected(server.address, 3) as wires:
            with Wire(server.address) as over, refused(self, UNAVAILABLE, "failed to connect"):
                over.stub.ListModels(ws.ListModelsRequest(), timeout=30)
            with self.connected(other.address, 3):
                self.assertTrue(all(self.answers(wire) for wire in wires), "what is open stays")
            wires[0].close()
            wait_until(lambda: self.answers_anew(server), "one that is closed makes room", poll=0.1)
        self.assertRegex(server.log(), r"connection_refused peer=127\.0\.0\.1 .*--max-peer-connections")

    def test_all_peers_together_have_so_many_and_no_more(self) -> None:
        server = self.start_server("--max-connections=4", "--max-peer-connections=3")
        other = self.start_proxy(server, source=ELSEWHERE)
        with self.connected(server.address, 3), self.connected(other.address, 1) as wires:
            with Wire(other.address) as over, refused(self, UNAVAILABLE, "failed to connect"):
                over.stub.ListModels(ws.ListModelsRequest(), timeout=30)
            self.assertTrue(self.answers(wires[0]))
        wait_until(lambda: not server.connections(), "they are closed")
        self.check_push(server)
        self.assertRegex(server.log(), rf"connection_refused peer={re.escape(ELSEWHERE)} .*--max-connections")

    def test_a_connection_without_calls_is_closed_and_comes_again(self) -> None:
        server = self.start_server("--idle-connection-seconds=1")
        with self.connected(server.address, 1) as wires:
            server.await_quiet()
            self.assertTrue(self.answers(wires[0]), "a client connects again by itself")
            # One with a call stays.
            watch = wires[0].stub.WatchModel(ws.WatchModelRequest(model="model"), timeout=60)
            next(watch)
            with self.connected(server.address, 1):
                wait_until(lambda: len(server.connections()) == 1, "the idle one is closed")
            watch.cancel()

    def test_a_crowd_does_not_take_the_last_descriptors(self) -> None:
        server = self.start_server("--handshake-seconds=60", wrapper=["prlimit", "--nofile=200", "--"])
        self.assertIn("few_descriptors", server.log())
        self.crowd(server, 400)
        self.check_push(server)


class Streams(LimitsTest):
    def watch(self, wire: Wire) -> Any:
        """A stream that the server serves."""
        stream = wire.stub.WatchModel(ws.WatchModelRequest(model="model"), timeout=60)
        next(stream)
        return stream

    def watch_if_there_is_a_thread(self, wire: Wire) -> Any:
        try:
            return self.watch(wire)
        except grpc.RpcError as error:
            raised: Any = error
            self.assertEqual((raised.code(), raised.details()), (EXHAUSTED, "Server Threadpool Exhausted"))
            return None

    def test_a_peer_has_so_many_and_the_others_theirs(self) -> None:
        server = self.start_server("--max-peer-streams=4")
        other = self.start_proxy(server, source=ELSEWHERE)
        with Wire(server.address) as wire, Wire(server.address) as more, Wire(other.address) as elsewhere:
            streams = [self.watch(each) for each in (wire, more, wire, more)]
            with refused(self, EXHAUSTED, "4 streams of one peer", "127.0.0.1", "--max-peer-streams"):
                self.watch(more)
            streams += [self.watch(elsewhere) for _ in range(4)]
            with refused(self, EXHAUSTED, ELSEWHERE, "--max-peer-streams"):
                self.watch(elsewhere)
            self.assertEqual(len(more.stub.ListModels(ws.ListModelsRequest(), timeout=30).models), 0)
            for stream in streams:
                stream.cancel()
        self.check_push_once_streams_are_let_go(server)

    def test_a_slow_peer_does_not_slow_the_others(self) -> None:
        """One is held back by its first chunk; the other, at the same rate, has saved enough for all that it sends."""
        server = self.start_server(SLOW)
        other = self.start_proxy(server, source=ELSEWHERE)
        slow, small = self.tensors(count=1)[0], random_tensor(np.random.default_rng(6), "small", "U8", (512,))
        with Wire(server.address) as wire, Wire(other.address) as elsewhere:
            update = wire.begin("slow", 1, [slow])
            chunks = [chunk_of(slow, at, at + MIB, update_id=update.update_id) for at in range(0, 4 * MIB, MIB)]
            pushing = wire.stub.Push.future(iter(chunks), timeout=60)
            self.await_landed(server, "slow")
            elsewhere.push_all("quick", 1, [small])
            self.assertFalse(pushing.done())
            self.assertEqual(wire.model("slow").updates[0].landed_bytes, MIB)
            pushing.cancel()
            wire.abort("slow", update.update_id)
        self.assert_current(server, "quick", [small])

    def test_streams_that_say_nothing_leave_room_for_others(self) -> None:
        server = self.start_server("--silent-stream-seconds=3")
        wires = [Wire(server.address) for _ in range(4)]
        never = threading.Event()

        def nothing() -> Iterator[Any]:
            never.wait()
            yield from ()

        try:
            silent = [wire.stub.Push.future(nothing(), timeout=60) for wire in wires for _ in range(50)]
            # From another host: this one's streams may all be taken.
            other = self.start_proxy(server, source=ELSEWHERE)
            source = write_safetensors(self.folder / "other.safetensors", self.tensors())
            self.push(source, other.address, "model", "--version=1")
            self.assert_current(server, "model", self.tensors())
            for each in silent:
                self.assertRegex(each.details(), "was waited for|--max-peer-streams|--max-threads")
            self.check_push_once_streams_are_let_go(server, version=2)
        finally:
            never.set()
            for wire in wires:
                wire.close()

    def test_reflection_is_bounded_as_well(self) -> None:
        """gRPC's own service, with a thread a stream: a hundred that say nothing would take as many."""
        server = self.start_server("--max-peer-streams=5", NEVER_SILENT)
        other = self.start_proxy(server, source=ELSEWHERE)
        never = threading.Event()

        def nothing() -> Iterator[bytes]:
            never.wait()
            yield from ()

        try:
            with Wire(server.address) as wire, Wire(other.address) as elsewhere:
                # list_services, as another peer: this one's stream might still be counted below.
                asked = elsewhere.channel.stream_stream(REFLECTION)(iter([b"\x3a\x00"]), timeout=30)
                self.assertIn(b"weightstream.v1.WeightStream", b"".join(asked))
                reflect = wire.channel.stream_stream(REFLECTION)
                silent = [reflect(nothing(), timeout=60) for _ in range(8)]
                wait_until(lambda: sum(each.done() for each in silent) >= 3, "three are refused")
                self.assertEqual(len(wire.stub.ListModels(ws.ListModelsRequest(), timeout=30).models), 0)
                refused_codes = [each.code() for each in silent if each.done()]
                self.assertEqual(refused_codes, [EXHAUSTED] * 3)
                for each in silent:
                    each.cancel()
        finally:
            never.set()

    def test_reflection_that_says_nothing_is_cut(self) -> None:
        server = self.start_server("--silent-stream-seconds=1")
        never = threading.Event()

        def nothing() -> Iterator[bytes]:
            never.wait()
            yield from ()

        try:
            with Wire(server.address) as wire:
                silent = wire.channel.stream_stream(REFLECTION)(nothing(), timeout=60)
                self.assertEqual(silent.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
                self.assertIn("ServerReflectionInfo: the other side was waited for", silent.details())
        finally:
            never.set()

    def test_reflection_takes_no_stream_of_others(self) -> None:
        """It asks for no token: whoever can connect could otherwise keep every sender out."""
        server = self.start_server("--max-threads=32", NEVER_SILENT)
        never = threading.Event()

        def nothing() -> Iterator[bytes]:
            never.wait()
            yield from ()

        try:
            with Wire(server.address) as stranger, Wire(server.address) as wire:
                reflect = stranger.channel.stream_stream(REFLECTION)
                # One over the two that reflection has, and no more: a refusal reaches us before its thread is free.
                silent = [reflect(nothing(), timeout=60) for _ in range(3)]
                wait_until(lambda: sum(each.done() for each in silent) == 1, "all but two are refused")
                # Not all may be watches: an update has the others.
                streams = [wait_until(lambda: self.watch_if_there_is_a_thread(wire), "a watch") for _ in range(10)]
                (tensor,) = self.tensors(count=1)
                update = wire.begin("model", 1, [tensor])

                def one_chunk(first: int) -> Iterator[Any]:
                    chunk = chunk_of(tensor, first, first + 1)
                    chunk.update_id = update.update_id
                    yield chunk
                    never.wait()

                streams += [wire.stub.Push.future(one_chunk(i), timeout=60) for i in range(14)]
                wait_until(lambda: wire.model("model").updates[0].open_streams == 14, "all others are an update's")
                self.assertEqual(sum(each.done() for each in silent), 1)
                for stream in [*streams, *silent]:
                    stream.cancel()
        finally:
            never.set()


class Updates(LimitsTest):
    def begin(self, wire: Wire, model: str, version: int = 1) -> Any:
        return wire.begin(model, version, self.tensors(count=1))

    def test_so_many_are_in_flight_and_no_more(self) -> None:
        server = self.start_server("--max-updates=2", "--drain-seconds=1")
        with Wire(server.address) as wire:
            first = self.begin(wire, "a")
            self.begin(wire, "b")
            with refused(self, EXHAUSTED, "2 updates in flight", "--max-updates"):
                self.begin(wire, "c")
            self.assertTrue(self.begin(wire, "a").resumed)
            wire.abort("a", first.update_id)
            third = self.begin(wire, "c")
            wire.abort("c", third.update_id)
        self.check_push(server)

    def test_a_silent_one_gives_way(self) -> None:
        server = self.start_server("--max-updates=1", "--silent-stream-seconds=0.2", "--drain-seconds=1")
        with Wire(server.address) as wire:
            silent = self.begin(wire, "silent")

            def begun() -> bool:
                try:
                    self.begin(wire, "next")
                except grpc.RpcError:
                    return False
                return True

            wait_until(begun, "the silent update gives way")
            with refused(self, grpc.StatusCode.ABORTED, "no chunk for", "--max-updates"):
                wire.push(silent.update_id, [chunk_of(self.tensors(count=1)[0])])


class Page(EndToEndTest):
    def test_the_page_has_every_flag_with_the_default_that_help_says(self) -> None:
        page = Path(os.environ["LIMITS_PAGE"]).read_text()
        command = [binary("WEIGHTSTREAM_SERVER"), "--help"]
        help_text = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        rows = dict(re.findall(r"^\| `--([a-z-]+)` \| ([^|]+?) \|", page, re.MULTILINE))
        self.assertGreaterEqual(len(rows), 15)
        for flag, default in rows.items():
            with self.subTest(flag=flag):
                described = re.search(rf"--{flag}=.*?(?=\n *--|\n\n|\Z)", help_text, re.DOTALL)
                assert described, help_text
                words = " ".join(described[0].split())
                self.assertTrue(words.endswith(f"Default {default}.") or f"Default: {default}." in words, words)
        limits = {flag for flag in re.findall(r"--(max-[a-z-]+)=", help_text)}
        self.assertLessEqual(limits, rows.keys())


if __name__ == "__main__":
    python_cases.main()
