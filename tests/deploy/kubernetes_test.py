"""The manifests of deploy/kubernetes: each overlay is valid, fits together, and its server does what its pod needs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import unittest
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.v1.weightstream_pb2_grpc import WeightStreamStub

from tests.deploy import manifests
from tests.deploy.certificates import make_certificates
from tests.deploy.manifests import Rendered, rendered
from tests.end_to_end.checkpoints import Tensor, random_tensor, write_sharded
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server, binary
from tests.end_to_end.safetensors_file import SafetensorsFile
from tests.end_to_end.waiting import wait_until
from tests.end_to_end.wire import CALL_SECONDS, refused, specs_of
from tests.hooks.inference_servers import InferenceServer, Sglang, Vllm
from tools import python_cases

# What the process needs beside its versions, at its largest: docs/operations.md.
PROCESS_BYTES = 2 << 30
SERVING = b"\x08\x01"
# Versions in GPU memory: nothing in their pods may name a file of one.
IN_GPU_MEMORY = {"sglang-cuda-ipc", "vllm-cuda-ipc"}
# What their servers use here instead, with room for the versions of a test; it cannot be shared with other processes.
HOST_MEMORY = "--device=host-memory:8"
# Which do not tell the inference server of later versions: with vLLM that is a choice of its own.
UNTOLD = {"vllm", "vllm-cert-manager", "vllm-plaintext", "vllm-service-monitor"}
DEVELOPMENT_MODE = {"name": "VLLM_SERVER_DEV_MODE", "value": "1"}
INFERENCE_SERVERS: dict[str, type[InferenceServer]] = {"sglang": Sglang, "vllm": Vllm}

_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

# As containers run: root, if the test is that, loses its right to write what is read-only.
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def quantity(text: str) -> int:
    found = re.fullmatch(r"([0-9]+)(Ki|Mi|Gi)", text)
    assert found, text
    return int(found[1]) * _UNITS[found[2]]


def known_flags(*program: str) -> set[str]:
    text = subprocess.run([*program, "--help"], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"^  --([a-z-]+)", text, re.MULTILINE))


def some_tensors(seed: int) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    return [random_tensor(rng, f"layer.{i}.weight", "BF16", (64, 33 + i)) for i in range(8)]


@unittest.skipIf(manifests.TOOLS_MISSING != "", manifests.TOOLS_MISSING)
class Manifests(EndToEndTest):
    def test_every_overlay_is_what_kubernetes_schemas_allow_and_no_more(self) -> None:
        names = manifests.overlays()
        self.assertGreaterEqual(len(names), 6)
        for name in names:
            for document in rendered(name).documents:
                for version in (manifests.LEAST_KUBERNETES, manifests.NEWEST_KUBERNETES):
                    with self.subTest(name, kind=document["kind"], version=version):
                        manifests.check_schema(document, version)

    def test_what_selects_pods_and_names_ports_and_volumes_finds_them(self) -> None:
        for name in manifests.overlays():
            with self.subTest(name):
                overlay = rendered(name)
                labels = overlay.template["metadata"]["labels"].items()
                selectors = [service["spec"]["selector"] for service in overlay.of_kind("Service")]
                for kind in ("PodDisruptionBudget", "Deployment"):
                    selectors += [document["spec"]["selector"]["matchLabels"] for document in overlay.of_kind(kind)]
                (policy,) = overlay.of_kind("NetworkPolicy")
                selectors.append(policy["spec"]["podSelector"]["matchLabels"])
                self.assertEqual(len(selectors), 5)
                for selector in selectors:
                    self.assertLessEqual(selector.items(), labels)
                ports = [port["targetPort"] for s in overlay.of_kind("Service") for port in s["spec"]["ports"]]
                ports += [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
                self.assertLessEqual(set(ports), overlay.port_names)
                mounted = {mount["name"] for container in overlay.containers for mount in container["volumeMounts"]}
                self.assertEqual(mounted, {volume["name"] for volume in overlay.pod["volumes"]})
                self._check_monitor(overlay)

    def _check_monitor(self, overlay: Rendered) -> None:
        for monitor in overlay.of_kind("ServiceMonitor"):
            wanted = monitor["spec"]["selector"]["matchLabels"].items()
            services = [s for s in overlay.of_kind("Service") if wanted <= s["metadata"].get("labels", {}).items()]
            self.assertEqual([service["metadata"]["name"] for service in services], ["weightstream"])
            ports = {port["name"] for port in services[0]["spec"]["ports"]}
            self.assertLessEqual({endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}, ports)
            (port,) = (p for p in overlay.sidecar["ports"] if p["name"] == "metrics")
            self.assertEqual(overlay.flags.get("metrics-listen"), f"0.0.0.0:{port['containerPort']}")

    def test_memory_suffices_for_the_versions_and_is_set_aside(self) -> None:
        for name in manifests.overlays():
            with self.subTest(name):
                overlay = rendered(name)
                memory = overlay.sidecar["resources"]
                self.assertEqual(memory["requests"]["memory"], memory["limits"]["memory"])
                in_volume = self._volume_bytes(overlay) if overlay.keeps_files else 0
                self.assertGreaterEqual(quantity(memory["limits"]["memory"]), in_volume + PROCESS_BYTES)

    def _volume_bytes(self, overlay: Rendered) -> int:
        volume = overlay.volume("weights")["emptyDir"]
        self.assertEqual(volume["medium"], "Memory")
        versions = int(overlay.flags["keep-versions"]) + 1
        arenas = versions * int(overlay.flags["max-model-gib"]) << 30
        self.assertGreater(quantity(volume["sizeLimit"]), arenas)
        return quantity(volume["sizeLimit"])

    def test_senders_find_pods_that_are_not_ready_and_requests_do_not(self) -> None:
        for name in manifests.overlays():
            with self.subTest(name):
                services = {s["metadata"]["name"]: s["spec"] for s in rendered(name).of_kind("Service")}
                self.assertEqual(services["weightstream"]["clusterIP"], "None")
                self.assertTrue(services["weightstream"]["publishNotReadyAddresses"])
                self.assertNotIn("publishNotReadyAddresses", services["inference"])

    def test_no_container_of_ours_has_rights(self) -> None:
        for name in manifests.overlays():
            with self.subTest(name):
                overlay = rendered(name)
                self.assertFalse(overlay.pod["automountServiceAccountToken"])
                for container in overlay.containers:
                    rights = container["securityContext"]
                    self.assertTrue(rights["runAsNonRoot"])
                    self.assertFalse(rights["allowPrivilegeEscalation"])
                    self.assertEqual(rights["capabilities"], {"drop": ["ALL"]})
                self.assertTrue(overlay.sidecar["securityContext"]["readOnlyRootFilesystem"])

    def test_the_inference_server_beside_is_told_of_versions_and_can_load_them(self) -> None:
        told = {name for name in manifests.overlays() if "on-commit" in rendered(name).flags}
        self.assertEqual(told, set(manifests.overlays()) - UNTOLD - IN_GPU_MEMORY)
        for name in told:
            with self.subTest(name):
                overlay = rendered(name)
                (inference,) = overlay.pod["containers"]
                (port,) = (port["containerPort"] for port in inference["ports"] if port["name"] == "http")
                self.assertEqual(overlay.flags["on-commit"], f"http://127.0.0.1:{port}")
                preset = overlay.flags["on-commit-preset"]
                self.assertIn(preset, inference["image"])
                # It loads whatever it is told of.
                self.assertIn(f"--served-model-name={overlay.flags['on-commit-model']}", inference["args"])
                # The folder that it is told of is the sidecar's, and a version must outlive the next one's commit.
                mounts = [container["volumeMounts"] for container in (overlay.sidecar, inference)]
                paths = {mount["mountPath"] for each in mounts for mount in each if mount["name"] == "weights"}
                self.assertEqual(len(paths), 1)
                self.assertGreaterEqual(int(overlay.flags["keep-versions"]), 2)

    def test_memory_of_a_gpu_is_shared_between_two_containers_that_can(self) -> None:
        self.assertEqual({name for name in manifests.overlays() if not rendered(name).keeps_files}, IN_GPU_MEMORY)
        for name in IN_GPU_MEMORY:
            with self.subTest(name):
                overlay = rendered(name)
                (inference,) = overlay.pod["containers"]
                # There are no files, whose folder would be /weights/models.
                self.assertNotIn("/weights/", json.dumps(overlay.pod))
                self.assertNotIn("weights", [volume["name"] for volume in overlay.pod["volumes"]])
                self.assertNotIn("data-dir", overlay.flags)
                self.assertTrue(overlay.pod["shareProcessNamespace"])
                self.assertEqual(overlay.pod["runtimeClassName"], "nvidia")
                self.assertIn({"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}, overlay.sidecar["env"])
                self.assertNotIn("nvidia.com/gpu", overlay.sidecar["resources"]["limits"])
                self.assertEqual(inference["resources"]["limits"]["nvidia.com/gpu"], "1")
                # Parameters that are random until the adapter fills them: never with an image that has no adapter.
                self.assertIn("--load-format=dummy", inference["args"])
                self.assertEqual(inference["image"], "inference-with-adapter")
                self.assertEqual(overlay.secret_at(inference, "/tls"), "weightstream-inference-tls")
                self.assertEqual(overlay.secret_at(overlay.sidecar, "/tls"), "weightstream-tls")

    def test_certificates_come_from_where_they_say(self) -> None:
        asked = [name for name in manifests.overlays() if rendered(name).of_kind("Certificate")]
        self.assertEqual(asked, ["vllm-cert-manager"])
        overlay = rendered(asked[0])
        issuers = {issuer["metadata"]["name"]: issuer["spec"] for issuer in overlay.of_kind("Issuer")}
        made = {c["spec"]["secretName"]: c["spec"] for c in overlay.of_kind("Certificate")}
        self.assertEqual(len(made), len(overlay.of_kind("Certificate")))
        # The sidecar's secret, signed by a CA that is itself one of them, as is the senders'.
        for secret in (overlay.secret_at(overlay.sidecar, "/tls"), "weightstream-sender-tls"):
            self.assertEqual(made[secret]["issuerRef"]["kind"], "Issuer")
            signs = issuers[made[secret]["issuerRef"]["name"]]["ca"]["secretName"]
            self.assertTrue(made[signs]["isCA"])
            self.assertIn("selfSigned", issuers[made[signs]["issuerRef"]["name"]])

    def test_what_prepares_a_pod_may_run_twice(self) -> None:
        for name in manifests.overlays():
            for container in rendered(name).pod["initContainers"][1:]:
                with self.subTest(name, container=container["name"]):
                    folder = self.folder / name / container["name"]
                    for mounted in ("config", "model", "weights"):
                        (folder / mounted).mkdir(parents=True)
                    (folder / "config/config.json").write_text("{}")
                    # As a ConfigMap may say; a copy has its mode.
                    (folder / "config/config.json").chmod(0o444)
                    words = " ".join(container["args"])
                    here = re.sub(r"(?<!\S)/(config|model|weights)/", rf"{folder}/\1/", words)
                    self.assertNotEqual(here, words)
                    # A node that starts again runs it once more, in the volumes as they are.
                    for _ in range(2):
                        command = [*UNPRIVILEGED, *container["command"], here]
                        ended = subprocess.run(command, capture_output=True, text=True)
                        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
                    self.assertTrue((folder / "model/config.json").exists())

    def test_only_a_gateway_reaches_endpoints_that_load_weights(self) -> None:
        """SGLang always has them at the port of its requests; vLLM, where its development mode is on."""
        exposed = set()
        for name in manifests.overlays():
            (inference,) = rendered(name).pod["containers"]
            if "sglang.launch_server" in inference["command"] or DEVELOPMENT_MODE in inference["env"]:
                exposed.add(name)
        told = {name for name in manifests.overlays() if "on-commit" in rendered(name).flags}
        self.assertEqual(exposed, told | {"sglang-cuda-ipc"})
        for name in manifests.overlays():
            with self.subTest(name):
                (policy,) = rendered(name).of_kind("NetworkPolicy")
                (rule,) = (rule for rule in policy["spec"]["ingress"] if {"port": "http"} in rule["ports"])
                clients = {"matchLabels": {"inference-gateway": "true"}} if name in exposed else {}
                self.assertEqual(rule["from"], [{"podSelector": clients}])

    def test_every_flag_is_one_of_the_program_it_is_given_to(self) -> None:
        server = known_flags(binary("WEIGHTSTREAM_SERVER"))
        self.assertIn("listen", server)
        for name in manifests.overlays():
            overlay = rendered(name)
            with self.subTest(name):
                self.assertLessEqual(set(overlay.flags), server)
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                program, command, *flags = overlay.sidecar[probe].get("exec", {}).get("command", ["", ""])
                if command:
                    with self.subTest(name, probe=probe):
                        self.assertEqual(program, "/usr/bin/weightstream")
                        known = known_flags(binary("WEIGHTSTREAM"), command)
                        self.assertLessEqual(set(manifests.flags_of(flags)), known)


class Pod:
    """The sidecar of one overlay, run with the pod's own flags; its volumes are folders."""

    def __init__(self, test: EndToEndTest, name: str) -> None:
        self.test = test
        self.overlay = rendered(name)
        self.tls = test.folder / "tls"
        self.weights = test.shared_memory / "weights"
        self.weights.mkdir()
        self.inference: InferenceServer | None = None
        if "on-commit" in self.overlay.flags:
            self.inference = INFERENCE_SERVERS[self.overlay.flags["on-commit-preset"]]()
            test.addCleanup(self.inference.close)
        if "tls-cert" in self.overlay.flags:
            make_certificates(self.tls, self._names())

    def _names(self) -> list[str]:
        """The server's names: those that cert-manager would write, where it is asked to."""
        certificates = self.overlay.of_kind("Certificate")
        if not certificates:
            return ["weightstream"]
        secret = self.overlay.secret_at(self.overlay.sidecar, "/tls")
        (names,) = (c["spec"]["dnsNames"] for c in certificates if c["spec"]["secretName"] == secret)
        return list(names)

    def here(self, argument: str) -> str:
        """An argument with the pod's paths as the test's."""
        return argument.replace("=/tls/", f"={self.tls}/").replace("=/weights/", f"={self.weights}/")

    def arguments(self) -> list[str]:
        """The pod's flags, with ports of the system's choice, the stand-in's for the inference server's, and memory of
        this machine for a GPU's.
        """
        flags = [
            re.sub(r"\A(--(?:metrics-)?listen=.*):[0-9]+\Z", r"\1:0", self.here(flag))
            for flag in self.overlay.sidecar["args"]
        ]
        flags = [re.sub(r"\A--device=cuda:[0-9]+\Z", HOST_MEMORY, flag) for flag in flags]
        if self.inference is None:
            return flags
        return [re.sub(r"\A(--on-commit=).*", rf"\g<1>{self.inference.url}", flag) for flag in flags]

    def start(self) -> Server:
        flags = [flag for flag in self.arguments() if not flag.startswith(("--data-dir=", "--listen="))]
        (listen,) = (flag.removeprefix("--listen=") for flag in self.arguments() if flag.startswith("--listen="))
        # Of no use to a server that keeps no files: it is not even made, which the test looks at.
        data_dir = self.test.data_dir(str(Path("weights") / Path(self.overlay.flags.get("data-dir", "none")).name))
        server = self.test.start_server(*flags, data_dir=data_dir, listen=listen)
        # As a peer names it.
        server.address = f"127.0.0.1:{server.port}"
        return server

    def sender_flags(self) -> list[str]:
        if "tls-cert" not in self.overlay.flags:
            return []
        sender = self.tls / "sender"
        return [
            *(f"--tls-ca={sender}/ca.crt", f"--tls-cert={sender}/tls.crt", f"--tls-key={sender}/tls.key"),
            "--tls-server-name=weightstream",
        ]

    def channel(self, server: Server) -> grpc.Channel:
        """A sender's connection."""
        if "tls-cert" not in self.overlay.flags:
            return grpc.insecure_channel(server.address)
        ca, key, certificate = ((self.tls / "sender" / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        return grpc.secure_channel(server.address, credentials, [("grpc.ssl_target_name_override", "weightstream")])

    def passes(self, server: Server, probe_name: str) -> bool:
        """What the kubelet would find, in one try."""
        probe = self.overlay.sidecar[probe_name]
        if "exec" in probe:
            command = [self.here(part).replace(":7070", f":{server.port}") for part in probe["exec"]["command"]]
            ended = subprocess.run([binary("WEIGHTSTREAM"), *command[1:]], capture_output=True, timeout=60)
            return ended.returncode == 0
        service: str = probe["grpc"].get("service", "")
        request = bytes([0x0A, len(service)]) + service.encode() if service else b""
        with grpc.insecure_channel(server.address) as channel:
            call: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                return bool(call(request, timeout=CALL_SECONDS) == SERVING)
            except grpc.RpcError:
                return False

    def paths_read(self) -> Iterable[Path]:
        """The files of versions that other containers name in their arguments."""
        for container in self.overlay.containers[1:]:
            for path in re.findall(r"/weights/\S+", " ".join(container.get("args", []))):
                yield Path(path.replace("/weights", str(self.weights), 1))


@unittest.skipIf(manifests.TOOLS_MISSING != "", manifests.TOOLS_MISSING)
class Pods(EndToEndTest):
    def pod_holds_its_promises(self, name: str) -> None:
        pod = Pod(self, name)
        server = pod.start()
        self.assertFalse(pod.passes(server, "startupProbe"))
        self.assertFalse(pod.passes(server, "readinessProbe"))
        self.assertTrue(pod.passes(server, "livenessProbe"))
        paths = list(pod.paths_read())
        self.assertEqual([path.exists() for path in paths], [False] if pod.overlay.keeps_files else [])

        tensors = some_tensors(seed=6)
        checkpoint = write_sharded(self.folder / "checkpoint", tensors, 2)
        self.push(checkpoint, server.address, "policy", *pod.sender_flags())
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertTrue(pod.passes(server, probe), probe)
        self.assertTrue(all(path.exists() for path in paths), paths)
        self.assert_pod_holds(pod, server, tensors)
        if pod.inference is not None:
            weights = {tensor.name: bytes(tensor.data) for tensor in tensors}
            inference = pod.inference
            wait_until(lambda: inference.weights == weights, "the inference server has loaded the version")

        # The kubelet runs each preStop at once, and ends the sidecar last.
        (inference,) = pod.overlay.pod["containers"]
        pauses = [c["lifecycle"]["preStop"]["sleep"]["seconds"] for c in (inference, pod.overlay.sidecar)]
        self.assertGreaterEqual(min(pauses), 5)
        pause = max(pauses)
        grace = pod.overlay.pod["terminationGracePeriodSeconds"]
        self.assertGreater(grace, pause + int(pod.overlay.flags["drain-seconds"]))
        self.assert_not_ready_while_it_drains(pod, server, grace - pause)

    def assert_not_ready_while_it_drains(self, pod: Pod, server: Server, seconds: float) -> None:
        """SIGTERM, with an update in flight, for whose end the server waits."""
        with pod.channel(server) as channel:
            stub = WeightStreamStub(channel)
            begin = ws.BeginUpdateRequest(model="another", version=1, tensors=specs_of(some_tensors(seed=7)))
            update = stub.BeginUpdate(begin, timeout=CALL_SECONDS)
            self.assertTrue(pod.passes(server, "readinessProbe"))
            server.signal(signal.SIGTERM)
            wait_until(lambda: "shutting_down" in server.log(), "the drain begins")
            wait_until(lambda: not pod.passes(server, "readinessProbe"), "the probe finds the pod not ready")
            # It was the server that said so: it answers still, and has not cut the update.
            abort = ws.AbortUpdateRequest(model="another", update_id=update.update_id, reason="the test has seen it")
            stub.AbortUpdate(abort, timeout=CALL_SECONDS)
        self.assertEqual(server.wait(seconds), 0)
        self.assertIn('"drained":true', server.log())

    def assert_pod_holds(self, pod: Pod, server: Server, tensors: list[Tensor]) -> None:
        """The current version is these tensors, as who reads files finds them, or who asks the server."""
        if pod.overlay.keeps_files:
            self.assert_current(server, "policy", tensors)
            return
        self.assertFalse(server.data_dir.exists())
        out = self.folder / "pulled"
        self.weightstream("pull", f"--from={server.address}", "--model=policy", f"--out={out}", *pod.sender_flags())
        with SafetensorsFile(out / "model.safetensors") as file:
            self.assert_holds(file, tensors)

    def test_every_overlay_is_run(self) -> None:
        run = {name.removeprefix("test_pod_").replace("_", "-") for name in dir(self) if name.startswith("test_pod_")}
        self.assertEqual(run, set(manifests.overlays()))

    def test_pod_vllm(self) -> None:
        self.pod_holds_its_promises("vllm")

    def test_pod_vllm_plaintext(self) -> None:
        self.pod_holds_its_promises("vllm-plaintext")

    def test_pod_vllm_cert_manager(self) -> None:
        self.pod_holds_its_promises("vllm-cert-manager")

    def test_pod_vllm_service_monitor(self) -> None:
        self.pod_holds_its_promises("vllm-service-monitor")

    def test_the_pod_that_is_scraped_answers_with_metrics(self) -> None:
        server = Pod(self, "vllm-service-monitor").start()
        lines = [json.loads(line) for line in server.log().splitlines()]
        (address,) = (line["address"] for line in lines if line["event"] == "metrics")
        port = address.rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=CALL_SECONDS) as answer:
            self.assertIn(b"weightstream_received_bytes_total", answer.read())

    def test_pod_vllm_reload(self) -> None:
        self.pod_holds_its_promises("vllm-reload")

    def test_pod_sglang(self) -> None:
        self.pod_holds_its_promises("sglang")

    def test_a_sender_without_a_certificate_is_refused(self) -> None:
        pod = Pod(self, "vllm")
        server = pod.start()
        checkpoint = write_sharded(self.folder / "checkpoint", some_tensors(seed=7), 1)
        trusts = [flag for flag in pod.sender_flags() if not flag.startswith(("--tls-cert", "--tls-key"))]
        for flags in ([], trusts):
            self.push(checkpoint, server.address, "policy", "--connect-seconds=2", *flags, code=1)
        self.assertFalse(pod.passes(server, "readinessProbe"))

    def test_pod_sglang_cuda_ipc(self) -> None:
        self.pod_holds_its_promises("sglang-cuda-ipc")

    def test_pod_vllm_cuda_ipc(self) -> None:
        self.pod_holds_its_promises("vllm-cuda-ipc")

    def test_the_inference_server_of_the_pod_may_ask_for_its_memory_and_nobody_without_a_certificate(self) -> None:
        pod = Pod(self, "sglang-cuda-ipc")
        server = pod.start()
        checkpoint = write_sharded(self.folder / "checkpoint", some_tensors(seed=8), 1)
        self.push(checkpoint, server.address, "policy", *pod.sender_flags())
        mounted = pod.tls / "inference"
        ca, key, certificate = ((mounted / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))

        def export(credentials: grpc.ChannelCredentials) -> None:
            # As the inference server's container would, to its own pod's loopback address.
            options = [("grpc.ssl_target_name_override", "weightstream"), ("grpc.use_local_subchannel_pool", 1)]
            with grpc.secure_channel(server.address, credentials, options) as channel:
                request = ws.ExportTargetRequest(model="policy")
                next(WeightStreamStub(channel).ExportTarget(request, timeout=CALL_SECONDS))

        # Let in, found to be local, and answered by the device: of which only a GPU's memory can be shared.
        with refused(self, grpc.StatusCode.UNIMPLEMENTED, "cannot be shared"):
            export(grpc.ssl_channel_credentials(ca, key, certificate))
        with refused(self, grpc.StatusCode.UNAVAILABLE):
            export(grpc.ssl_channel_credentials(ca))


if __name__ == "__main__":
    python_cases.main()
