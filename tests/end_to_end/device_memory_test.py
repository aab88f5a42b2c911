"""A server whose versions are memory, as a GPU's are: the commands as an operator uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
from weightstream.v1 import weightstream_pb2 as ws

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server
from tests.end_to_end.safetensors_file import SafetensorsFile
from tests.end_to_end.wire import CALL_SECONDS, Wire, chunk_of, refused
from tools import python_cases

# A version has 6 MB.
ROOM_FOR_TWO = "--device=host-memory:13"
ROOM_FOR_ONE = "--device=host-memory:8"


def tensor(version: int) -> Tensor:
    return random_tensor(np.random.default_rng(version), "w", "BF16", (3000, 1000))


class DeviceMemory(EndToEndTest):
    def source(self, version: int) -> Path:
        return write_safetensors(self.folder / f"{version}.safetensors", [tensor(version)])

    def push_version(self, server: Server, version: int) -> Any:
        return self.push(self.source(version), server.address, "model", f"--version={version}").json

    def verify(self, server: Server, version: int, code: int = 0) -> None:
        self.weightstream("verify", self.source(version), f"--to={server.address}", "--model=model", code=code)

    def state(self, server: Server) -> Any:
        outcome = self.weightstream("status", f"--to={server.address}", "--model=model")
        (state,) = outcome.json["servers"][0]["models"]
        return state

    def begin_in_place(self, wire: Wire) -> str:
        """An update to version 2 of which one chunk has landed; its id."""
        begun = wire.begin("model", 2, [tensor(2)])
        wire.push(begun.update_id, [chunk_of(tensor(2), 0, 1000)])
        return str(begun.update_id)

    def test_versions_are_pushed_verified_pulled_and_rolled_back(self) -> None:
        server = self.start_server(ROOM_FOR_TWO)
        report = self.push_version(server, 1)
        self.assertEqual(report["servers"][0]["path"], "")
        self.push_version(server, 2)
        self.verify(server, 2)
        self.verify(server, 1, code=1)
        out = self.folder / "pulled"
        self.weightstream("pull", f"--from={server.address}", "--model=model", f"--out={out}")
        with SafetensorsFile(out / "model.safetensors") as file:
            self.assert_holds(file, [tensor(2)])
        self.weightstream("rollback", f"--to={server.address}", "--model=model", "--version=1")
        self.verify(server, 1)
        self.assertEqual(self.state(server)["device"], "host-memory")
        self.assertFalse(server.data_dir.exists(), "nothing is written to disk")

    def test_a_third_version_takes_the_room_of_the_first(self) -> None:
        server = self.start_server(ROOM_FOR_TWO)
        for version in (1, 2, 3):
            self.push_version(server, version)
        state = self.state(server)
        self.assertEqual([v["version"] for v in state["versions"]], [2, 3])
        self.assertEqual([u["mode"] for u in state["updates"]], ["beside"] * 3)
        self.verify(server, 3)

    def test_status_says_that_an_update_is_in_place_and_what_it_leaves_behind(self) -> None:
        server = self.start_server(ROOM_FOR_ONE)
        self.push_version(server, 1)
        self.assertEqual(self.state(server)["weights_state"], "whole")
        with Wire(server.address) as wire:
            update_id = self.begin_in_place(wire)
            state = self.state(server)
            self.assertEqual(
                (state["weights_state"], state["overwritten_version"], state["current_version"]), ("updating", 1, 0)
            )
            self.assertEqual(state["updates"][0]["mode"], "in place")
            self.verify(server, 1, code=1)
            wire.abort("model", update_id)
        self.assertEqual(self.state(server)["weights_state"], "untrusted")
        self.push_version(server, 2)
        self.assertEqual(self.state(server)["weights_state"], "whole")
        self.verify(server, 2)

    def test_after_a_restart_nothing_is_held(self) -> None:
        server = self.start_server(ROOM_FOR_TWO)
        self.push_version(server, 1)
        server.stop()
        again = self.start_server(ROOM_FOR_TWO)
        self.weightstream("status", f"--to={again.address}", "--model=model", code=1)
        self.push_version(again, 1)
        self.verify(again, 1)

    def test_a_version_that_does_not_fit_is_refused_with_what_there_is(self) -> None:
        server = self.start_server("--device=host-memory:1")
        outcome = self.push(self.source(1), server.address, "model", code=1)
        self.assertIn("no 6000000 bytes for a target, where 1048576 of 1048576 are free", outcome.stderr)

    def test_the_memory_is_not_shared_with_other_processes(self) -> None:
        server = self.start_server(ROOM_FOR_ONE)
        self.push_version(server, 1)
        with Wire(server.address) as wire, refused(self, grpc.StatusCode.UNIMPLEMENTED, "cannot be shared"):
            next(wire.stub.ExportTarget(ws.ExportTargetRequest(model="model"), timeout=CALL_SECONDS))


if __name__ == "__main__":
    python_cases.main()
