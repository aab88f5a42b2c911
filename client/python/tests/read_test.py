"""What is read is one version, whole: pulled over the wire, or mapped where it lies."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import weightstream
from weightstream import Client, ModelState, UpdateState

from client.python.tests.interposer import Interposer
from tests.end_to_end.checkpoints import random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tools import python_cases


class ReadTest(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        rng = np.random.default_rng(11)
        self.arrays = {f"layer.{i}": rng.standard_normal((61, 7 * i)) for i in range(9)}
        self.arrays["wide"] = rng.standard_normal((1000, 500)).astype(np.float32)
        self.server = self.start_server("--keep-versions=1", listen=self.reserve_address())
        self.client = Client(self.server.address)
        self.addCleanup(self.client.close)

    def assert_same(self, found: dict[str, np.ndarray[Any, Any]], wanted: dict[str, np.ndarray[Any, Any]]) -> None:
        self.assertEqual(sorted(found), sorted(wanted))
        for name, array in wanted.items():
            self.assertEqual((found[name].dtype, found[name].shape), (array.dtype, array.shape))
            self.assertEqual(found[name].tobytes(), array.tobytes(), name)


class Pulled(ReadTest):
    def test_everything_comes_back_bit_for_bit(self) -> None:
        self.client.push("model", 3, self.arrays, metadata={"step": "3"})
        version = self.client.pull("model")
        self.assertEqual((version.model, version.version, version.path), ("model", 3, None))
        self.assertEqual(version.metadata, {"step": "3"})
        self.assert_same(version.numpy(), self.arrays)

    def test_some_tensors_come_alone(self) -> None:
        self.client.push("model", 1, self.arrays)
        names = ["wide", "layer.0", "layer.4"]
        self.assert_same(self.client.pull("model", names=names).numpy(), {name: self.arrays[name] for name in names})
        with self.assertRaisesRegex(weightstream.NotFoundError, "absent"):
            self.client.pull("model", names=["absent"])

    def test_it_lands_in_the_callers_memory(self) -> None:
        self.client.push("model", 1, self.arrays)
        into = {name: np.zeros_like(array) for name, array in self.arrays.items()}
        self.client.pull("model", into=into)
        self.assert_same(into, self.arrays)

    def test_memory_that_does_not_fit_is_refused_by_name(self) -> None:
        self.client.push("model", 1, {"weight": np.zeros((4, 6), np.float32)})
        frozen = np.zeros((4, 6), np.float32)
        frozen.flags.writeable = False
        for into, words in (
            ({}, 'no tensor "weight"'),
            ({"weight": np.zeros((6, 4), np.float32)}, r"F32\[6, 4\].*F32\[4, 6\]"),
            ({"weight": np.zeros((4, 6), np.float64)}, "F64.*F32"),
            ({"weight": np.zeros((6, 4), np.float32).T}, "not contiguous"),
            ({"weight": frozen}, "read-only"),
        ):
            with self.subTest(words), self.assertRaisesRegex(weightstream.InvalidArgumentError, words):
                self.client.pull("model", into=into)

    def test_a_cut_connection_costs_what_was_on_the_way(self) -> None:
        cut: list[int] = []
        proxy = self.start_proxy(self.server)
        array = np.random.default_rng(1).standard_normal(4_000_000)
        self.client.push("model", 1, {"weight": array})

        def cut_in_the_middle(progress: weightstream.Progress) -> None:
            if not cut and progress.moved_bytes:
                cut.append(proxy.cut())

        with Client(proxy.address) as client:
            version = client.pull("model", progress=cut_in_the_middle)
        self.assertGreaterEqual(cut[0], 1)
        self.assert_same(version.numpy(), {"weight": array})


class Loaded(ReadTest):
    def mapped(self) -> list[str]:
        return re.findall(r"^.* (\S*model\.safetensors.*)$", Path("/proc/self/maps").read_text(), re.MULTILINE)

    def test_it_is_the_servers_own_file(self) -> None:
        result = self.client.push("model", 1, self.arrays, metadata={"format": "np"})
        version = self.client.load("model")
        self.assertEqual((str(version.path), version.version), (result.path, 1))
        self.assert_same(version.numpy(), self.arrays)
        address = version["wide"].numpy().ctypes.data
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        around = [m[5] for m in maps if int(m[0].split("-")[0], 16) <= address < int(m[0].split("-")[1], 16)]
        self.assertEqual(around, [result.path])

    def test_it_outlives_the_versions_removal(self) -> None:
        self.client.push("model", 1, self.arrays)
        array = self.client.load("model")["wide"].numpy()
        path = self.client.model("model").versions[0].path
        self.client.push("model", 2, {name: -value for name, value in self.arrays.items()})
        self.client.push("model", 3, {})
        self.assertFalse(os.path.exists(path))  # noqa: PTH110
        self.assertEqual(array.tobytes(), self.arrays["wide"].tobytes())
        self.assertTrue(self.mapped())
        del array
        self.assertEqual(self.mapped(), [])

    def test_arrays_are_read_only(self) -> None:
        self.client.push("model", 1, self.arrays)
        array = self.client.load("model")["wide"].numpy()
        with self.assertRaises(ValueError):
            array[0] = 1

    def test_a_file_that_is_not_the_servers_is_refused(self) -> None:
        self.client.push("model", 1, self.arrays)
        rng = np.random.default_rng(2)
        elsewhere = write_safetensors(self.folder / "model.safetensors", [random_tensor(rng, "wide", "F32", (9,))])

        def tell_path(before: int, request: Any, pass_on: Any, context: Any) -> Any:
            model = pass_on(request)
            model.versions[0].path = str(elsewhere)
            return model

        between = Interposer(self.server.address, {"GetModel": tell_path})
        self.addCleanup(between.close)
        with Client(between.address) as client, self.assertRaisesRegex(weightstream.NotFoundError, "another host"):
            client.load("model")
        elsewhere.unlink()
        with Client(between.address) as client, self.assertRaisesRegex(weightstream.NotFoundError, r"pull\(\)"):
            client.load("model")

    def test_what_is_not_there_is_not_found(self) -> None:
        self.client.push("model", 4, self.arrays)
        with self.assertRaisesRegex(weightstream.NotFoundError, "no version 3; it holds 4"):
            self.client.load("model", 3)
        with self.assertRaises(weightstream.NotFoundError):
            self.client.load("nobody")


class Told(ReadTest):
    def test_a_watch_tells_each_commit_and_outlives_a_restart(self) -> None:
        states: list[ModelState] = []
        seen = threading.Condition()

        def follow(client: Client) -> None:
            for state in client.watch("model", timeout=60):
                with seen:
                    states.append(state)
                    seen.notify_all()
                if state.current_version == 2:
                    return

        thread = threading.Thread(target=follow, args=(self.client,))
        thread.start()
        with seen:
            self.assertTrue(seen.wait_for(lambda: states, 30))
        self.assertEqual(states[0].current_version, 0)
        self.client.push("model", 1, self.arrays)
        with seen:
            self.assertTrue(seen.wait_for(lambda: states[-1].current_version == 1, 30))
        self.server.kill()
        again = self.start_server("--keep-versions=2", data_dir=self.server.data_dir, listen=self.server.address)
        with Client(again.address) as other:
            other.push("model", 2, self.arrays)
        thread.join(60)
        self.assertFalse(thread.is_alive())
        self.assertEqual(states[-1].current_version, 2)
        self.assertEqual([v.version for v in states[-1].versions], [1, 2])

    def test_a_watch_ends_in_time(self) -> None:
        self.assertEqual([state.current_version for state in self.client.watch("nobody", timeout=2)], [0])

    def test_models_and_rollback(self) -> None:
        server = self.start_server("--keep-versions=2", data_dir=self.data_dir("other"))
        with Client(server.address) as client:
            client.push("a", 1, self.arrays)
            client.push("a", 2, {})
            client.push("b", 1, {})
            self.assertEqual([model.name for model in client.models()], ["a", "b"])
            self.assertEqual(client.rollback("a", 1).current_version, 1)
            self.assert_same(client.load("a").numpy(), self.arrays)
            state = client.model("a")
            self.assertEqual((state.highest_version, [v.version for v in state.versions]), (2, [1, 2]))
            self.assertEqual(state.updates[0].state, UpdateState.COMMITTED)

    def test_verify_names_what_differs(self) -> None:
        self.client.push("model", 1, self.arrays)
        self.assertEqual(self.client.verify("model", self.arrays), [])
        other = {name: array.copy() for name, array in self.arrays.items() if name != "layer.1"}
        other["wide"][3, 4] += 1
        other["new"] = np.zeros(1)
        self.assertEqual(
            sorted(self.client.verify("model", other)),
            ['"layer.1": only on the server', '"new": not on the server', '"wide": bytes differ in [0, 2000000)'],
        )


if __name__ == "__main__":
    python_cases.main()
