"""A push is found in the logs of all its servers: by its update's id on each line, and by the trace it is part of."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import numpy as np
from weightstream.v1 import weightstream_pb2 as ws

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import CALL_SECONDS, Wire, chunk_of, specs_of
from tools import python_cases

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
OTHER_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OTHER = f"00-{OTHER_TRACE}-00f067aa0ba902b7-00"

Line = dict[str, Any]


class TracingTest(EndToEndTest):
    def tensors(self) -> list[Tensor]:
        rng = np.random.default_rng(1)
        return [random_tensor(rng, name, "BF16", (100, 8)) for name in ("a", "b")]

    def source(self) -> Path:
        return write_safetensors(self.folder / "source.safetensors", self.tensors())

    def start_logging_server(self, *flags: str, name: str = "data") -> Server:
        return self.start_server("--log-format=json", "--log-level=debug", *flags, data_dir=self.data_dir(name))

    @staticmethod
    def lines(server: Server) -> list[Line]:
        # The last one may be half written.
        return [json.loads(line) for line in server.log().splitlines(keepends=True) if line.endswith("\n")]

    def lines_of(self, server: Server, update: str) -> list[Line]:
        return [line for line in self.lines(server) if line.get("update") == update]

    def await_event(self, server: Server, event: str, update: str) -> Line:
        def found() -> Line | None:
            return next((line for line in self.lines_of(server, update) if line["event"] == event), None)

        line = wait_until(found, f"{event} of update {update} is logged")
        assert line is not None
        return line

    def assert_traced(self, line: Line, trace_id: str, span_id: str) -> None:
        self.assertEqual((line.get("trace_id"), line.get("span_id")), (trace_id, span_id), line)

    def assert_untraced(self, line: Line) -> None:
        self.assertNotIn("trace_id", line)
        self.assertNotIn("span_id", line)


class TheCommand(TracingTest):
    def pushed(self, server: Server, *flags: str) -> Any:
        outcome = self.push(self.source(), server.address, "model", *flags)
        (result,) = outcome.json["servers"]
        return result

    def test_every_line_of_an_update_has_its_id_and_the_trace_of_the_push(self) -> None:
        servers = [self.start_logging_server(name=f"data-{number}") for number in range(2)]
        to = ",".join(server.address for server in servers)
        outcome = self.push(self.source(), to, "model", f"--traceparent={PARENT}")
        spans = set()
        for server, result in zip(servers, outcome.json["servers"], strict=True):
            version, trace_id, span_id, flags = result["traceparent"].split("-")
            self.assertEqual((version, trace_id, flags), ("00", TRACE, "01"))
            spans.add(span_id)
            self.await_event(server, "update_committed", result["update_id"])
            lines = self.lines_of(server, result["update_id"])
            events = {line["event"] for line in lines}
            self.assertEqual(events, {"update_begun", "push_stream_ended", "update_committed"})
            for line in lines:
                self.assert_traced(line, TRACE, span_id)
        self.assertEqual(len(spans | {SPAN}), 3, "a span of its own for each server")

    def test_the_environment_gives_the_trace_unless_the_flag_does(self) -> None:
        server = self.start_logging_server()
        with mock.patch.dict(os.environ, TRACEPARENT=PARENT):
            self.assertEqual(self.pushed(server)["traceparent"].split("-")[1], TRACE)
            self.assertEqual(self.pushed(server, f"--traceparent={OTHER}")["traceparent"].split("-")[1], OTHER_TRACE)
        with mock.patch.dict(os.environ, TRACEPARENT=PARENT.upper()):
            self.assertEqual(self.pushed(server)["traceparent"], "")
        for line in self.lines_of(server, self.pushed(server)["update_id"]):
            self.assert_untraced(line)

    def test_a_flag_that_is_no_trace_is_refused_with_the_form(self) -> None:
        refused = self.push(self.source(), "127.0.0.1:1", "model", f"--traceparent={PARENT.upper()}", code=2)
        self.assertIn("is no trace context; give one such as 00-", refused.json["error"]["message"])

    def test_text_lines_carry_it_too(self) -> None:
        server = self.start_server()
        result = self.pushed(server, f"--traceparent={PARENT}")
        span = result["traceparent"].split("-")[2]
        pattern = rf"^\S+Z info update_committed .*\bupdate={result['update_id']}\b.* trace_id={TRACE} span_id={span}$"
        wait_until(lambda: re.search(pattern, server.log(), re.MULTILINE), "the commit's line")

    def test_a_version_that_goes_names_the_update_that_took_its_place(self) -> None:
        server = self.start_logging_server("--keep-versions=1")
        self.pushed(server)
        update = self.pushed(server, f"--traceparent={PARENT}")["update_id"]
        line = self.await_event(server, "version_removed", update)
        self.assertEqual((line["model"], line["version"]), ("model", 1))
        self.assertEqual(line["trace_id"], TRACE)

    def test_a_spare_arena_that_is_lost_names_the_update_that_was_to_have_it(self) -> None:
        server = self.start_logging_server()
        self.pushed(server)
        # Its folder is there before it is one that an update could have.
        with Wire(server.address) as wire:
            wait_until(lambda: wire.model("model").prepared_bytes, "a spare is made")
        (spare,) = (server.data_dir / "model").glob(".spare-*")
        shutil.rmtree(spare)
        update = self.pushed(server)["update_id"]
        self.assertEqual(self.await_event(server, "spare_arena_lost", update)["model"], "model")


class TheWire(TracingTest):
    """A client of its own, with a span for each call, as OpenTelemetry's instrumentation makes them."""

    def setUp(self) -> None:
        super().setUp()
        self.next_version = 1

    def wire(self, server: Server) -> Wire:
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        return wire

    def begin(self, wire: Wire, *traceparents: str) -> str:
        request = ws.BeginUpdateRequest(model="model", version=self.next_version, tensors=specs_of(self.tensors()))
        self.next_version += 1
        metadata = [("traceparent", value) for value in traceparents]
        return str(wire.stub.BeginUpdate(request, timeout=CALL_SECONDS, metadata=metadata).update_id)

    def test_what_the_specification_says_to_ignore_is_ignored(self) -> None:
        server = self.start_logging_server()
        wire = self.wire(server)
        for values in (
            [f"ff-{TRACE}-{SPAN}-01"],
            [f"00-{'0' * 32}-{SPAN}-01"],
            [f"00-{TRACE}-{'0' * 16}-01"],
            [f"00-{TRACE[:-1]}-{SPAN}-01"],
            [f"{PARENT}-more"],
            [PARENT.replace("a", "A")],
            ["nonsense"],
            [PARENT, OTHER],
        ):
            update = self.begin(wire, *values)
            self.assert_untraced(self.await_event(server, "update_begun", update))
        newer = self.begin(wire, f"cc-{TRACE}-{SPAN}-01-what-comes-then")
        self.assert_traced(self.await_event(server, "update_begun", newer), TRACE, SPAN)

    def test_a_call_has_its_own_span_and_without_one_the_updates(self) -> None:
        server = self.start_logging_server()
        wire = self.wire(server)
        update = self.begin(wire, PARENT)
        wire.push(update, [chunk_of(tensor) for tensor in self.tensors()])
        self.assert_traced(self.await_event(server, "push_stream_ended", update), TRACE, SPAN)
        own = [("traceparent", f"00-{TRACE}-1111111111111111-01")]
        request = ws.CommitUpdateRequest(model="model", update_id=update)
        wire.stub.CommitUpdate(request, timeout=CALL_SECONDS, metadata=own)
        self.assert_traced(self.await_event(server, "update_committed", update), TRACE, "1" * 16)
        # Once more, without: a repetition of a commit, which the server remembers.
        wire.stub.CommitUpdate(request, timeout=CALL_SECONDS)
        wait_until(lambda: len(self.lines_of(server, update)) == 4, "the second commit is logged")
        self.assert_traced(self.lines_of(server, update)[-1], TRACE, SPAN)

    def test_an_update_that_ends_without_a_call_of_its_sender_keeps_its_trace(self) -> None:
        def superseded(server: Server, wire: Wire, update: str) -> None:
            self.begin(wire, OTHER)

        def aborted(server: Server, wire: Wire, update: str) -> None:
            wire.abort("model", update)

        def shut_down(server: Server, wire: Wire, update: str) -> None:
            server.stop()

        ends: list[tuple[str, Callable[[Server, Wire, str], None]]] = [
            ("superseded by an update to version", superseded),
            ("aborted by its sender", aborted),
            ("the server is shutting down", shut_down),
        ]
        for number, (reason, end) in enumerate(ends):
            server = self.start_logging_server("--drain-seconds=0.1", name=f"data-{number}")
            wire = self.wire(server)
            update = self.begin(wire, PARENT)
            end(server, wire, update)
            line = self.await_event(server, "update_aborted", update)
            self.assertIn(reason, line["reason"])
            self.assert_traced(line, TRACE, SPAN)

    def test_an_idle_update_keeps_its_trace(self) -> None:
        server = self.start_logging_server("--idle-update-seconds=0.2")
        update = self.begin(self.wire(server), PARENT)
        line = self.await_event(server, "update_aborted", update)
        self.assertIn("--idle-update-seconds", line["reason"])
        self.assert_traced(line, TRACE, SPAN)

    def test_a_stream_that_is_refused_names_the_update_that_it_named(self) -> None:
        server = self.start_logging_server()
        wire = self.wire(server)
        with self.assertRaises(grpc.RpcError):
            chunk = chunk_of(self.tensors()[0], update_id="gone")
            wire.stub.Push(iter([chunk]), timeout=CALL_SECONDS, metadata=[("traceparent", PARENT)])
        self.assert_traced(self.await_event(server, "push_stream_ended", "gone"), TRACE, SPAN)

    def test_the_commit_hook_is_told_the_trace_and_its_lines_have_it(self) -> None:
        told = self.folder / "told"
        hook = self.folder / "hook"
        hook.write_text(f'#!/bin/sh\necho "$TRACEPARENT" > {told}\n')
        hook.chmod(0o755)
        server = self.start_logging_server(f"--on-commit-exec={hook}")
        wire = self.wire(server)
        update = self.begin(wire, PARENT)
        wire.push(update, [chunk_of(tensor) for tensor in self.tensors()])
        wire.commit("model", update)
        self.assert_traced(self.await_event(server, "commit_hook_succeeded", update), TRACE, SPAN)
        _, trace_id, span_id, _ = told.read_text().strip().split("-")
        self.assertEqual(trace_id, TRACE)
        self.assertNotEqual(span_id, SPAN)


if __name__ == "__main__":
    python_cases.main()
