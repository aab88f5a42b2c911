"""What a server tells of its models is all there in Python: how its hook went, and what cannot be trusted."""

from __future__ import annotations

import dataclasses
import enum
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import weightstream
from weightstream import Client, CommitHookState, ModelState, UpdateMode, WeightsState, WeightStreamError
from weightstream.v1 import weightstream_pb2 as ws

from client.python.tests.interposer import Interposer
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server
from tests.end_to_end.waiting import wait_until
from tools import python_cases

# Of a server that has no room beside a version of 6 MB.
ROOM_FOR_ONE = "--device=host-memory:8"


def version(number: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"weight": np.full((1500, 1000), number, np.float32)}


class Refusing(BaseHTTPRequestHandler):
    """An inference server that takes no version."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(400)
        self.end_headers()
        self.wfile.write(b"no such model here")

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Told(EndToEndTest):
    def connect(self, address: str) -> Client:
        client = Client(address)
        self.addCleanup(client.close)
        return client

    def start_refusing(self) -> str:
        server = HTTPServer(("127.0.0.1", 0), Refusing)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}/load"

    def test_a_hook_that_failed_is_seen_and_the_version_is_current_all_the_same(self) -> None:
        server = self.start_server(f"--on-commit={self.start_refusing()}", "--on-commit-attempts=2")
        client = self.connect(server.address)
        client.push("model", 7, version(7))

        def failed() -> ModelState | None:
            state = client.model("model")
            return state if state.commit_hook and state.commit_hook.state is CommitHookState.FAILED else None

        state = wait_until(failed, "the hook has failed", poll=0.1)
        assert state is not None and state.commit_hook is not None and state.commit_hook.time is not None
        self.assertEqual((state.current_version, state.commit_hook.version), (7, 7))
        self.assertRegex(state.commit_hook.message, "400.*no such model here")
        self.assertEqual(state.commit_hook.attempts, 2)
        self.assertGreaterEqual(state.commit_hook.time, state.versions[0].commit_time)

    def stop_in_place(self, server: Server, client: Client) -> threading.Event:
        """Pushes version 2 over version 1 until some of it has landed; returns what ends the push."""
        cancel = threading.Event()
        proxy = self.start_proxy(server, 2_000_000)

        def push() -> None:
            # In chunks so small that some get through, however far away the server seems.
            with Client(proxy.address) as cut_off, self.assertRaises(WeightStreamError):
                cut_off.push("model", 2, version(2), chunk_bytes=65536, cancel=cancel)

        thread = threading.Thread(target=push)
        thread.start()
        self.addCleanup(thread.join, 60)
        self.addCleanup(cancel.set)
        updating = WeightsState.UPDATING
        wait_until(lambda: client.model("model").weights_state is updating, "a byte has landed", poll=0.05)
        return cancel

    def test_an_update_in_place_is_told_and_what_it_leaves_cannot_be_trusted(self) -> None:
        server = self.start_server(ROOM_FOR_ONE)
        client = self.connect(server.address)
        self.assertEqual(client.models(), [])
        client.push("model", 1, version(1))
        state = client.model("model")
        self.assertEqual(
            (state.weights_state, state.device, state.device_error), (WeightsState.WHOLE, "host-memory", "")
        )
        self.assertEqual((state.overwritten_version, state.unfinished_version, state.targets), (0, 0, None))
        cancel = self.stop_in_place(server, client)
        state = client.model("model")
        self.assertEqual((state.current_version, state.overwritten_version, state.unfinished_version), (0, 1, 2))
        (flying, ended) = state.updates
        self.assertEqual((flying.mode, flying.end_time), (UpdateMode.IN_PLACE, None))
        assert flying.begin_time is not None and ended.end_time is not None
        self.assertGreaterEqual(flying.begin_time, ended.end_time)
        cancel.set()
        client._control.once("AbortUpdate", ws.AbortUpdateRequest(model="model", update_id=flying.update_id))
        state = client.model("model")
        self.assertIs(state.weights_state, WeightsState.UNTRUSTED)
        self.assertEqual((state.current_version, state.overwritten_version, state.unfinished_version), (0, 1, 2))

    def test_a_device_that_failed_and_registered_memory_are_told(self) -> None:
        server = self.start_server()
        self.connect(server.address).push("model", 1, version(1))

        def altered(before: int, request: Any, pass_on: Any, context: Any) -> Any:
            model = pass_on(request)
            model.device_error = "an illegal address; start the server again"
            model.targets.owner = "unix:"
            model.targets.bytes = 7
            model.targets.state.state = ws.WEIGHTS_STATE_UPDATING
            model.targets.state.next_version = 3
            # As a later server may say.
            model.weights_state = 99
            return model

        between = Interposer(server.address, {"GetModel": altered})
        self.addCleanup(between.close)
        state = self.connect(between.address).model("model")
        self.assertEqual(state.device_error, "an illegal address; start the server again")
        self.assertIs(state.weights_state, WeightsState.UNKNOWN)
        assert state.targets is not None
        self.assertEqual((state.targets.owner, state.targets.bytes), ("unix:", 7))
        self.assertEqual((state.targets.state, state.targets.next_version), (WeightsState.UPDATING, 3))
        self.assertIsNone(state.commit_hook)


class Complete(EndToEndTest):
    def fields(self, message: Any) -> set[str]:
        return {field.name for field in message.DESCRIPTOR.fields}

    def test_every_field_of_the_wire_has_one_here(self) -> None:
        for ours, theirs in (
            (weightstream.ModelState, ws.Model),
            (weightstream.VersionInfo, ws.VersionInfo),
            (weightstream.UpdateInfo, ws.UpdateInfo),
            (weightstream.CommitHook, ws.CommitHook),
        ):
            self.assertEqual({field.name for field in dataclasses.fields(ours)}, self.fields(theirs))
        held = self.fields(ws.RegisteredTargets) | self.fields(ws.TargetsState)
        self.assertEqual({field.name for field in dataclasses.fields(weightstream.RegisteredTargets)}, held)

    def test_every_state_of_the_wire_has_one_here(self) -> None:
        enums: list[tuple[type[enum.Enum], Any, str]] = [
            (weightstream.UpdateState, ws.UpdateState, "UPDATE_STATE_"),
            (weightstream.UpdateMode, ws.UpdateMode, "UPDATE_MODE_"),
            (weightstream.WeightsState, ws.WeightsState, "WEIGHTS_STATE_"),
            (weightstream.CommitHookState, ws.CommitHookState, "COMMIT_HOOK_STATE_"),
        ]
        for ours, theirs, prefix in enums:
            named = {f"{prefix}{each.name.replace('UNKNOWN', 'UNSPECIFIED')}": each.value for each in ours}
            self.assertEqual(named, dict(theirs.items()))


if __name__ == "__main__":
    python_cases.main()
