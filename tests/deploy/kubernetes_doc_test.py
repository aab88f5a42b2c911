"""docs/kubernetes.md: its commands do what it says of them, on the manifests and with the programs as they are."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import unittest
from pathlib import Path

import yaml

from tests.deploy import manifests
from tests.deploy.manifests import Rendered, rendered
from tests.end_to_end.checkpoints import write_filled
from tests.end_to_end.harness import EndToEndTest
from tools import python_cases

# Of the pod's server, and of the inference server beside a GPU.
SERVER_SECRET = "weightstream-tls"
CLIENT_SECRET = "weightstream-inference-tls"
_OPENSSL = re.compile(r"^openssl req .*?[^\\]$", re.MULTILINE | re.DOTALL)


class Page(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        self.text = Path(os.environ["KUBERNETES_PAGE"]).read_text()
        # In blocks of their own, or in a sentence.
        blocks = re.findall(r"^ *```\n(.*?)^ *```$", self.text, re.MULTILINE | re.DOTALL)
        self.commands = blocks + re.findall(r"(?<!`)`([^`]+)`(?!`)", self.text)

    def command(self, *words: str) -> str:
        """The one command of the page with all these words."""
        (found,) = (command for command in self.commands if all(word in command for word in words))
        return found

    def run_in(self, folder: Path, command: str) -> str:
        ended = subprocess.run(["bash", "-euc", command], cwd=folder, capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, 0, f"{command}\n{ended.stderr}")
        return ended.stdout

    @unittest.skipIf(manifests.TOOLS_MISSING != "", manifests.TOOLS_MISSING)
    def test_a_model_that_is_renamed_as_it_says_has_the_new_name_everywhere(self) -> None:
        copied = self.folder / "deploy/kubernetes"
        shutil.copytree(manifests.KUBERNETES, copied)
        self.run_in(self.folder, self.command("sed ", "NAME").replace("NAME", "actor-7b"))
        for name in manifests.overlays():
            with self.subTest(name):
                renamed = json.dumps(Rendered(name, copied).documents)
                self.assertEqual(re.findall(r"\bpolicy\b(?!/v1)", renamed), [])
                # And nothing but the name is another.
                self.assertEqual(json.loads(renamed.replace("actor-7b", "policy")), rendered(name).documents)

    @unittest.skipIf(manifests.TOOLS_MISSING != "", manifests.TOOLS_MISSING)
    def test_secrets_that_are_made_as_it_says_let_probes_and_clients_in(self) -> None:
        made = self.folder / "made"
        made.mkdir()
        (names,) = set(re.findall(r"`(subjectAltName=[^`]+)`", self.text))
        security = Path(os.environ["SECURITY_PAGE"]).read_text()
        recipe = [command.replace("\\\n", " ") for command in _OPENSSL.findall(security)]
        self.assertEqual(len(recipe), 3)
        for command in recipe:
            self.run_in(made, re.sub(r"subjectAltName=DNS:localhost[^\"]*", names, command))
        server_tls = self.secret(made, SERVER_SECRET)
        client_tls = self.secret(made, CLIENT_SECRET)
        server = self.start_server(
            *(f"--tls-cert={server_tls}/tls.crt", f"--tls-key={server_tls}/tls.key"),
            f"--tls-client-ca={server_tls}/ca.crt",
        )
        # The first as a probe does, with the server's own.
        for tls in (server_tls, client_tls):
            flags = [f"--tls-ca={tls}/ca.crt", f"--tls-cert={tls}/tls.crt", f"--tls-key={tls}/tls.key"]
            self.weightstream("status", f"--to={server.address}", *flags, "--tls-server-name=weightstream")

    def secret(self, made: Path, name: str) -> Path:
        """A folder with the secret's files, as a pod has them mounted."""
        command = self.command("kubectl create secret", f" {name} ").rstrip() + " --dry-run=client --output=yaml"
        secret = yaml.safe_load(self.run_in(made, command.replace("kubectl", str(manifests.KUBECTL), 1)))
        folder = self.folder / name
        folder.mkdir()
        for file, content in secret["data"].items():
            (folder / file).write_bytes(base64.b64decode(content))
        return folder

    def test_a_version_that_is_restored_as_it_says_keeps_its_number(self) -> None:
        peer = self.start_server(data_dir=self.data_dir("peer"))
        pod = self.start_server(data_dir=self.data_dir("pod"))
        checkpoint = write_filled(self.folder / "model.safetensors", 1, [1000])
        self.push(checkpoint, peer.address, "policy", "--version=7")

        def words(command: str, version: int = 0) -> list[str]:
            here = {"PEER:7070": peer.address, "POD:7070": pod.address, "=N": f"={version}"}
            for word, meant in here.items():
                command = command.replace(word, meant)
            return command.replace("DIR", str(self.folder / "pulled")).split()[1:]

        pulled = self.weightstream(*words(self.command("weightstream pull ", "PEER"))).json
        self.weightstream(*words(self.command("weightstream push ", "POD"), pulled["version"]))
        self.assertEqual((pod.data_dir / "policy/current").readlink().name, "7")


if __name__ == "__main__":
    python_cases.main()
