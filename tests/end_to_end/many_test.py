"""A model of 20,000 small tensors: nothing of what it costs may grow with the square of their number."""

from __future__ import annotations

import numpy as np

from tests.end_to_end.checkpoints import random_tensor, write_sharded
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.safetensors_file import SafetensorsFile
from tools import python_cases

COUNT = 20_000
SEED = 20_000


class ManySmallTensors(EndToEndTest):
    def check(self, device: str) -> None:
        rng = np.random.default_rng(SEED)
        shapes = [(16,), (3, 5), (), (0, 4), (64, 2)]
        dtypes = ["BF16", "F32", "U8", "F64", "F8_E4M3"]
        tensors = [
            random_tensor(rng, f"model.layers.{i}.weight", dtypes[i % 5], shapes[i // 5 % 5]) for i in range(COUNT)
        ]
        source = write_sharded(self.folder / "checkpoint", tensors, 4)
        server = self.start_server(f"--device={device}")
        outcome = self.push(source, server.address, "many", "--connections=2")
        self.assertEqual(outcome.json["tensors"], COUNT)
        self.assert_current(server, "many", tensors)
        self.weightstream("verify", source, f"--to={server.address}", "--model=many")
        self.weightstream("pull", f"--from={server.address}", "--model=many", f"--out={self.folder / 'out'}")
        with SafetensorsFile(self.folder / "out" / "model.safetensors") as file:
            self.assert_holds(file, tensors)

    def test_twenty_thousand_on_the_host(self) -> None:
        self.check("host")

    def test_twenty_thousand_through_staging(self) -> None:
        self.check("host-staged")


if __name__ == "__main__":
    python_cases.main()
