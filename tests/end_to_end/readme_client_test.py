"""The client that README.md shows works, and stays as short as it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.end_to_end import readme_client
from tests.end_to_end.checkpoints import Tensor
from tests.end_to_end.harness import EndToEndTest
from tools import python_cases

MOST_LINES = 40


class ReadmeClient(EndToEndTest):
    def test_it_pushes_arrays_of_every_kind(self) -> None:
        rng = np.random.default_rng(40)
        arrays = {
            "large": rng.standard_normal((700, 1000)).astype(np.float32),
            "half": rng.standard_normal(1001).astype(np.float16),
            "scalar": np.array(-0.0),
            "empty": np.empty((0, 5), dtype=np.int32),
            "not contiguous": rng.integers(0, 2**60, (40, 30))[::3, ::2],
            "bytes": rng.integers(0, 256, 77).astype(np.uint8),
        }
        server = self.start_server("--bucket-mib=1")
        committed = readme_client.push(server.address, "model", 3, arrays)
        self.assertEqual(committed.version, 3)
        self.assertEqual(committed.path, str(server.data_dir / "model" / "3" / "model.safetensors"))
        self.assert_current(
            server,
            "model",
            [Tensor(name, readme_client.DTYPES[a.dtype.name], a.shape, a.tobytes()) for name, a in arrays.items()],
        )

    def test_it_pushes_a_model_without_tensors(self) -> None:
        server = self.start_server()
        readme_client.push(server.address, "model", 1, {})
        self.assert_current(server, "model", [])

    def test_it_has_forty_lines(self) -> None:
        self.assertLessEqual(len(Path(readme_client.__file__).read_text().splitlines()), MOST_LINES)


if __name__ == "__main__":
    python_cases.main()
