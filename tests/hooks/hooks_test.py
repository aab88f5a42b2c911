"""After a commit the inference server is told, as it documents it; what goes wrong with that is seen and harmless."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server, binary
from tests.end_to_end.waiting import wait_until
from tests.hooks.inference_servers import InferenceServer, Sglang, Vllm
from tools import python_cases

MODEL = "policy"
DOCUMENT = Path("docs/hooks.md")


class HooksTest(EndToEndTest):
    def tensors(self, version: int) -> list[Tensor]:
        return [random_tensor(np.random.default_rng(version), name, "BF16", (50, 8)) for name in ("a", "b")]

    def weights(self, version: int) -> dict[str, bytes]:
        return {tensor.name: bytes(tensor.data) for tensor in self.tensors(version)}

    def push_version(self, server: Server, version: int) -> None:
        source = self.folder / f"version-{version}.safetensors"
        write_safetensors(source, self.tensors(version))
        self.push(source, server.address, MODEL, f"--version={version}")

    def state(self, server: Server) -> Any:
        outcome = self.weightstream("status", f"--to={server.address}", f"--model={MODEL}")
        (model,) = outcome.json["servers"][0]["models"]
        return model

    def await_hook(self, server: Server, version: int, state: str) -> Any:
        """The hook's part of the status, once it has come so far."""

        def reached() -> Any:
            hook = self.state(server)["commit_hook"]
            return hook if hook and (hook["version"], hook["state"]) == (version, state) else None

        return wait_until(reached, f"the hook for version {version} has {state}", poll=0.1)

    def use(self, inference: InferenceServer) -> InferenceServer:
        self.addCleanup(inference.close)
        return inference

    def scrape(self, server: Server) -> str:
        found = re.search(r"metrics address=(\S+)", server.log())
        assert found, server.log()
        with urllib.request.urlopen(f"http://{found[1]}/metrics", timeout=10) as answer:
            return str(answer.read().decode())


class Presets(HooksTest):
    def test_sglang_loads_each_version_that_becomes_current(self) -> None:
        sglang = Sglang()
        self.use(sglang)
        server = self.start_server(f"--on-commit={sglang.url}", "--on-commit-preset=sglang")
        for version in (1, 2):
            self.push_version(server, version)
            hook = self.await_hook(server, version, "succeeded")
            self.assertEqual(hook["attempts"], 1)
            self.assertIn("Succeeded to update model weights.", hook["message"])
            self.assertEqual((sglang.weights, sglang.weight_version), (self.weights(version), str(version)))
        self.weightstream("rollback", f"--to={server.address}", f"--model={MODEL}", "--version=1")
        self.await_hook(server, 1, "succeeded")
        self.assertEqual((sglang.weights, sglang.weight_version), (self.weights(1), "1"))
        folder = str((server.data_dir / MODEL / "1").absolute())
        self.assertEqual(
            sglang.requests[-1], ("/update_weights_from_disk", {"model_path": folder, "weight_version": "1"})
        )

    def test_of_other_models_the_inference_server_is_not_told(self) -> None:
        sglang = Sglang()
        self.use(sglang)
        flags = ("--on-commit-preset=sglang", f"--on-commit-model={MODEL}")
        server = self.start_server(f"--on-commit={sglang.url}", *flags)
        self.push(write_safetensors(self.folder / "draft.safetensors", self.tensors(9)), server.address, "draft")
        # Calls come in order: had the draft's been made, it would be the first.
        self.push_version(server, 1)
        self.await_hook(server, 1, "succeeded")
        self.assertEqual(len(sglang.requests), 1)
        self.assertEqual(sglang.weights, self.weights(1))

    def test_vllm_reloads_and_forgets_its_prefix_cache(self) -> None:
        vllm = Vllm()
        self.use(vllm)
        server = self.start_server(f"--on-commit={vllm.url}", "--on-commit-preset=vllm")
        self.push_version(server, 1)
        self.await_hook(server, 1, "succeeded")
        self.assertEqual(vllm.weights, self.weights(1))
        self.assertFalse(vllm.prefix_cache_is_stale)
        self.assertEqual([path for path, _ in vllm.requests], ["/collective_rpc", "/reset_prefix_cache"])

    def test_what_was_recovered_is_not_told(self) -> None:
        sglang = Sglang()
        self.use(sglang)
        flags = (f"--on-commit={sglang.url}", "--on-commit-preset=sglang")
        server = self.start_server(*flags)
        self.push_version(server, 1)
        self.await_hook(server, 1, "succeeded")
        server.stop()
        server = self.start_server(*flags)
        self.assertIsNone(self.state(server)["commit_hook"])
        # The next commit's call is then the first: calls come in order.
        self.push_version(server, 2)
        self.await_hook(server, 2, "succeeded")
        self.assertEqual([body["weight_version"] for _, body in sglang.requests], ["1", "2"])

    def test_a_body_of_ones_own(self) -> None:
        sglang = Sglang()
        self.use(sglang)
        server = self.start_server(
            f"--on-commit={sglang.url}/update_weights_from_disk",
            '--on-commit-body={"model_path": "{folder}", "abort_all_requests": true}',
        )
        self.push_version(server, 1)
        self.await_hook(server, 1, "succeeded")
        self.assertEqual(sglang.weights, self.weights(1))
        self.assertEqual(set(sglang.requests[0][1]), {"model_path", "abort_all_requests"})


class Failures(HooksTest):
    def setUp(self) -> None:
        super().setUp()
        self.sglang = Sglang()
        self.use(self.sglang)
        self.flags = (f"--on-commit={self.sglang.url}", "--on-commit-preset=sglang", "--metrics-listen=127.0.0.1:0")

    def test_a_failure_is_repeated_until_it_succeeds(self) -> None:
        self.sglang.failures = 1
        server = self.start_server(*self.flags)
        self.push_version(server, 1)
        self.assertEqual(self.await_hook(server, 1, "succeeded")["attempts"], 2)
        self.assertEqual(self.sglang.weights, self.weights(1))
        self.assertRegex(server.log(), r"commit_hook_failed .*attempt=1 of=8 .*503.*warming up")

    def test_a_refusal_is_given_up_seen_everywhere_and_undoes_nothing(self) -> None:
        self.sglang.failures = 2
        # 200 with success=false.
        self.sglang.failure = (200, {"success": False, "message": "shapes differ"})
        server = self.start_server(*self.flags, "--on-commit-attempts=2")
        self.push_version(server, 1)
        hook = self.await_hook(server, 1, "failed")
        self.assertEqual(hook["attempts"], 2)
        self.assertIn("shapes differ", hook["message"])
        self.assert_current(server, MODEL, self.tensors(1))
        self.assertEqual(self.state(server)["current_version"], 1)
        wait_until(lambda: re.search(r"commit_hook_given_up .*shapes differ", server.log()), "the log says so as well")
        metrics = self.scrape(server)
        self.assertIn('weightstream_commit_hooks_total{model="policy",outcome="failed"} 1', metrics)
        self.assertIn('weightstream_commit_hook_failed_attempts_total{model="policy"} 2', metrics)
        self.push_version(server, 2)
        self.await_hook(server, 2, "succeeded")
        self.assertEqual(self.sglang.weights, self.weights(2))

    def test_commits_do_not_wait_for_it_and_the_newest_version_is_told_next(self) -> None:
        self.sglang.open.clear()
        server = self.start_server(*self.flags)
        self.push_version(server, 1)
        wait_until(lambda: self.sglang.requests, "the first call arrives")
        for version in (2, 3):
            self.push_version(server, version)
            self.assert_current(server, MODEL, self.tensors(version))
        self.sglang.open.set()
        self.await_hook(server, 3, "succeeded")
        self.assertEqual([body["weight_version"] for _, body in self.sglang.requests], ["1", "3"])
        self.assertEqual(self.sglang.weights, self.weights(3))

    def test_sigterm_ends_a_call_within_the_drain(self) -> None:
        self.sglang.open.clear()
        server = self.start_server(*self.flags, "--drain-seconds=1")
        self.push_version(server, 1)
        wait_until(lambda: self.sglang.requests, "the call arrives")
        server.signal(signal.SIGTERM)
        # The call's own timeout is five minutes.
        self.assertEqual(server.wait(30), 0)
        self.assertIn("the server is shutting down", server.log())

    def test_nobody_there_is_named_and_sigterm_does_not_wait_for_it(self) -> None:
        url = f"http://{self.reserve_address()}"
        server = self.start_server(f"--on-commit={url}", "--on-commit-preset=sglang", "--drain-seconds=600")
        self.push_version(server, 1)
        wait_until(lambda: self.state(server)["commit_hook"]["message"], "the first attempt fails")
        self.assertIn(url, self.state(server)["commit_hook"]["message"])
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(30), 0)


class Programs(HooksTest):
    def program(self, text: str) -> Path:
        path = self.folder / "tell"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return path

    def test_a_program_is_run_for_each_version(self) -> None:
        told = self.folder / "told"
        program = self.program(
            f'echo "$WEIGHTSTREAM_MODEL $WEIGHTSTREAM_VERSION" >> {told}\n'
            'cmp "$WEIGHTSTREAM_PATH" "$WEIGHTSTREAM_FOLDER/model.safetensors" && echo well done'
        )
        server = self.start_server(f"--on-commit-exec={program}")
        for version in (1, 2):
            self.push_version(server, version)
            self.assertIn("well done", self.await_hook(server, version, "succeeded")["message"])
        self.assertEqual(told.read_text(), f"{MODEL} 1\n{MODEL} 2\n")

    def test_a_program_that_hangs_is_killed_and_that_is_a_failure(self) -> None:
        program = self.program("echo waiting; sleep 1000")
        # Long enough for a shell to begin on a machine with much else to do.
        server = self.start_server(
            f"--on-commit-exec={program}", "--on-commit-timeout-seconds=5", "--on-commit-attempts=1"
        )
        self.push_version(server, 1)
        message = self.await_hook(server, 1, "failed")["message"]
        self.assertRegex(message, r"tell was killed after .*waiting")


class Usage(HooksTest):
    def test_what_cannot_work_is_refused_at_the_start(self) -> None:
        for flags, words in (
            (("--on-commit=https://127.0.0.1:1",), "only http"),
            (("--on-commit=http://127.0.0.1:1", "--on-commit-body={"), "--on-commit-body"),
            (("--on-commit-preset=sglang",), "--on-commit"),
            (("--on-commit=http://127.0.0.1:1", "--on-commit-exec=/bin/true"), "--on-commit-exec"),
        ):
            with self.subTest(flags=flags):
                command = [binary("WEIGHTSTREAM_SERVER"), f"--data-dir={self.data_dir()}", *flags]
                ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
                self.assertEqual(ended.returncode, 2, ended.stderr)
                self.assertIn(words, ended.stderr)

    def test_the_flags_of_the_page_are_taken(self) -> None:
        """Each command of docs/hooks.md starts a server; only the programs that it names are others' here."""
        commands = re.findall(
            r"^ {4}weightstream-server (--on-commit(?:.*\\\n)*.*)$", DOCUMENT.read_text(), re.MULTILINE
        )
        self.assertGreaterEqual(len(commands), 4)
        program = self.folder / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        for number, text in enumerate(commands):
            with self.subTest(command=text):
                words = subprocess.run(
                    ["sh", "-c", f"printf '%s\\0' {text.replace(chr(92) + chr(10), ' ')}"],
                    capture_output=True,
                    text=True,
                    check=True,
                    env=dict(os.environ),
                ).stdout.split("\0")[:-1]
                flags = [re.sub(r"(--on-commit-exec=).*", rf"\g<1>{program}", word) for word in words]
                self.start_server(*flags, data_dir=self.data_dir(f"data-{number}")).stop()


if __name__ == "__main__":
    python_cases.main()
