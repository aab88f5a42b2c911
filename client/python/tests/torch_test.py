"""With PyTorch, ml_dtypes, safetensors and tqdm, which `make test` does without: `make python` runs this."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.torch
import torch
import weightstream
from weightstream import Client

from tests.end_to_end.harness import EndToEndTest
from tools import python_cases

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64,
    torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
]  # fmt: skip


class OnlyDlpack:
    """A tensor of a library that nobody knows: all it has is DLPack."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __dlpack__(self) -> Any:
        return self._tensor.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


def bits(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().resolve_conj().contiguous().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


class TorchTest(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        warnings.simplefilter("error")
        self.server = self.start_server()
        self.client = Client(self.server.address)
        self.addCleanup(self.client.close)

    def assert_same(self, found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
        self.assertEqual(sorted(found), sorted(wanted))
        for name, tensor in wanted.items():
            self.assertEqual((found[name].dtype, found[name].shape), (tensor.dtype, tensor.shape), name)
            self.assertEqual(bits(found[name]), bits(tensor), name)


class Tensors(TorchTest):
    def tensors(self) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(21)
        tensors = {}
        for dtype in DTYPES:
            raw = torch.frombuffer(bytearray(rng.bytes(96 * 8)), dtype=torch.uint8)
            raw = raw % 2 if dtype == torch.bool else raw
            tensors[str(dtype)] = raw.view(dtype).reshape(4, -1)
        tensors["scalar"] = torch.tensor(1.5, dtype=torch.bfloat16)
        tensors["empty"] = torch.empty((3, 0), dtype=torch.float8_e4m3fn)
        return tensors

    def test_every_dtype_goes_there_and_back(self) -> None:
        tensors = self.tensors()
        self.client.push("model", 1, tensors)
        self.assert_same(self.client.load("model").torch(), tensors)
        self.assert_same(self.client.pull("model").torch(), tensors)
        into = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
        self.client.pull("model", into=into)
        self.assert_same(into, tensors)

    def test_the_safetensors_library_reads_what_was_pushed(self) -> None:
        tensors = {name: t for name, t in self.tensors().items() if "fnuz" not in name}
        path = self.client.push("model", 1, tensors, metadata={"format": "pt"}).path
        self.assert_same(safetensors.torch.load_file(path), tensors)

    def test_packed_four_bit_numbers_go_there_and_back(self) -> None:
        packed = torch.arange(64, dtype=torch.uint8).reshape(4, 16).view(torch.float4_e2m1fn_x2)
        self.client.push("model", 1, {"packed": packed})
        version = self.client.load("model")
        self.assertEqual((version["packed"].spec.dtype, version["packed"].spec.shape), ("F4", (4, 32)))
        found = version["packed"].torch()
        self.assertEqual((found.dtype, found.shape), (packed.dtype, packed.shape))
        self.assertEqual(found.view(torch.uint8).tolist(), packed.view(torch.uint8).tolist())

    def test_views_and_conjugates_arrive_as_they_look(self) -> None:
        base = torch.randn(40, 30)
        tensors = {
            "transposed": base.T,
            "strided": base[::3, ::2],
            "conjugate": torch.randn(9, dtype=torch.complex64).conj(),
            "offset": base[7:],
            "expanded": torch.tensor([2.5]).expand(5, 3),
        }
        self.client.push("model", 1, tensors)
        self.assert_same(self.client.load("model").torch(), tensors)

    def test_dlpack_knows_bfloat16(self) -> None:
        tensors = {"a": torch.randn(30, 10).to(torch.bfloat16), "b": torch.tensor(3, dtype=torch.int32)}
        self.client.push("model", 1, {name: OnlyDlpack(tensor) for name, tensor in tensors.items()})
        self.assert_same(self.client.load("model").torch(), tensors)
        with self.assertRaisesRegex(weightstream.InvalidArgumentError, '"t".*not contiguous'):
            self.client.push("model", 2, {"t": OnlyDlpack(torch.randn(3, 4).T)})

    def test_what_has_no_bytes_here_is_refused_by_name(self) -> None:
        for tensor, words in (
            (torch.empty(3, device="meta"), "without data"),
            (torch.eye(3).to_sparse(), "sparse"),
            (torch.zeros(3, dtype=torch.complex128), "complex128"),
        ):
            with self.subTest(words), self.assertRaisesRegex(weightstream.InvalidArgumentError, f'"odd".*{words}'):
                self.client.push("model", 1, {"odd": tensor})

    def test_numpy_has_bfloat16_and_bytes_of_floats_with_ml_dtypes(self) -> None:
        names = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")
        arrays = {name: np.arange(60).astype(getattr(ml_dtypes, name)).reshape(5, 12) for name in names}
        self.client.push("model", 1, arrays)
        found = self.client.load("model").numpy()
        for name, array in arrays.items():
            self.assertEqual((found[name].dtype, found[name].tobytes()), (array.dtype, array.tobytes()))


class Modules(TorchTest):
    def test_a_modules_parameters_are_loaded_by_another_without_a_copy(self) -> None:
        source, target = torch.nn.Linear(300, 200), torch.nn.Linear(300, 200)
        self.client.push("policy", None, source.named_parameters())
        version = self.client.load("policy")
        state = version.torch()
        target.load_state_dict(state, assign=True)
        self.assert_same(dict(target.state_dict()), dict(source.state_dict()))
        self.assertEqual(target.weight.data_ptr(), state["weight"].data_ptr())

    def test_what_is_written_to_a_mapped_tensor_stays_in_this_process(self) -> None:
        weight = torch.randn(1000)
        self.client.push("policy", 1, {"weight": weight})
        mapped = self.client.load("policy")["weight"].torch()
        mapped.zero_()
        self.assert_same(self.client.load("policy").torch(), {"weight": weight})
        self.assertEqual(self.client.verify("policy", {"weight": weight}), [])

    def test_progress_is_a_bar_of_tqdm(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as drawn:
            self.client.push("policy", 1, {"weight": torch.zeros(1 << 20)}, progress=True)
            self.client.pull("policy", progress=True)
        self.assertIn("push policy: 100%", drawn.getvalue())
        self.assertIn("pull policy: 100%", drawn.getvalue())


class Example(TorchTest):
    def test_one_process_trains_and_another_generates(self) -> None:
        def start(program: str, *arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, str(EXAMPLES / program), *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.addCleanup(process.kill)
            return process

        generator = start("generate.py", self.server.address)
        trainer = start("train.py", self.server.address)
        trained, _ = trainer.communicate(timeout=300)
        self.assertEqual(trainer.returncode, 0, trained)
        generated, _ = generator.communicate(timeout=300)
        self.assertEqual(generator.returncode, 0, generated)
        print(trained, generated, sep="\n", file=sys.stderr)
        first, last = generated.splitlines()[0], generated.splitlines()[-1]
        self.assertEqual(last, "step 200: a stream of weights, whole or not at all. ")
        self.assertNotEqual(first.partition(": ")[2], last.partition(": ")[2])
        # Most of the steps were seen, though none waits for the other.
        self.assertGreater(len(generated.splitlines()), 5)


if __name__ == "__main__":
    python_cases.main()
