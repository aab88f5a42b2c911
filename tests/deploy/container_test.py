"""The container image: what is in it, and that the server in it serves, without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.deploy.certificates import make_certificates
from tests.end_to_end.checkpoints import Tensor, random_tensor, write_sharded
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Process, Server, binary
from tools import python_cases

MIB = 1 << 20
# The most of the unpacked image, and of what a registry stores and a node fetches.
MOST_BYTES = 26 * MIB
MOST_COMPRESSED_BYTES = 12 * MIB
USER = 65532

# Everything in the image but notices of licences, in each variant.
PROGRAMS = {"usr/bin/weightstream", "usr/bin/weightstream-server"}
SETTINGS = {"etc/group", "etc/nsswitch.conf", "etc/passwd"}
# Debian has no archives of cpp-httplib and prometheus-cpp; the others are what they ask for.
METRICS_LIBRARIES = {
    "libbrotlicommon.so.1",
    "libbrotlidec.so.1",
    "libbrotlienc.so.1",
    "libcpp-httplib.so.0.11",
    "libcrypto.so.3",
    "libgcc_s.so.1",
    "libprometheus-cpp-core.so.1.0",
    "libssl.so.3",
    "libstdc++.so.6",
    "libz.so.1",
}
LIBRARIES = {"libc.so.6", "libisal.so.2", "libm.so.6"} | METRICS_LIBRARIES
LOADERS = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
CUDA_LIBRARIES = {"libdl.so.2", "libpthread.so.0", "librt.so.1"}


def some_tensors(seed: int) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    return [random_tensor(rng, f"layer.{i}.weight", "BF16", (64, 33 + i)) for i in range(8)]


def dockerfile_json(instruction: str) -> list[str]:
    """The argument list of an instruction in its JSON form."""
    text = Path(os.environ["DOCKERFILE"]).read_text()
    found = re.search(rf"^\s*{instruction} (\[.*\])$", text, re.MULTILINE)
    assert found, instruction
    arguments: list[str] = json.loads(found[1])
    return arguments


class ContainerServer(Server):
    """A server that was started by run_rootfs; its data folder is seen from outside."""

    def __init__(self, command: Sequence[str], data_dir: Path, log: Path) -> None:
        Process.__init__(self, "container", command, log, subprocess.PIPE)
        self.data_dir = data_dir
        self.address = self._await_address()
        self.port = int(self.address.rpartition(":")[2])


class Container(EndToEndTest):
    def setUp(self) -> None:
        super().setUp()
        if os.getuid() != 0:
            self.skipTest("not root: mounts and a change of user need it; run the tests as root, as CI does")
        if not binary("PROGRAMS").endswith("/programs"):
            self.skipTest("under a sanitizer, which brings shared libraries of its own, there is no static program")
        # Where an image's user may look.
        self.folder.chmod(0o755)

    def make_rootfs(self, device: str = "host") -> Path:
        rootfs = self.folder / f"rootfs-{device}"
        command = [os.environ["MAKE_ROOTFS"], str(rootfs), binary("PROGRAMS"), device]
        subprocess.run(command, check=True)
        return rootfs

    def inside(self, rootfs: Path, *command: str) -> list[str]:
        """The command line that runs a command of the image; /weights is the test's shared memory."""
        os.chown(self.shared_memory, USER, USER)
        return [os.environ["RUN_ROOTFS"], str(rootfs), str(self.shared_memory), *command]

    def start(self, rootfs: Path, *flags: str) -> ContainerServer:
        entrypoint = dockerfile_json("ENTRYPOINT")
        command = self.inside(rootfs, *entrypoint, *flags)
        server = ContainerServer(command, self.data_dir("models"), self.folder / f"server-{len(self._servers)}.log")
        self._servers.append(server)
        return server

    def files_of(self, rootfs: Path) -> set[str]:
        paths = {str(path.relative_to(rootfs)) for path in rootfs.rglob("*") if not path.is_dir()}
        return {path for path in paths if not re.fullmatch(r"usr/share/doc/[^/]+/copyright", path)}

    # ---- What is in it ---------------------------------------------------------------------------------------------

    def test_it_holds_both_programs_their_libraries_and_nothing_else(self) -> None:
        for device, libraries in (("host", LIBRARIES), ("cuda", LIBRARIES | CUDA_LIBRARIES)):
            with self.subTest(device):
                rootfs = self.make_rootfs(device)
                others = self.files_of(rootfs) - PROGRAMS - SETTINGS
                self.assertLessEqual(PROGRAMS | SETTINGS, self.files_of(rootfs))
                self.assertEqual({Path(path).name for path in others} - LOADERS, libraries)
                self.assertTrue({Path(path).name for path in others} & LOADERS)

    def test_its_page_lists_the_libraries_that_it_brings(self) -> None:
        page = Path(os.environ["PAGE"]).read_text()
        rows = [line for line in page.splitlines() if line.startswith("|")]
        listed = set(re.findall(r"`(lib[^`]+)`", "\n".join(rows)))
        self.assertEqual(listed, LIBRARIES | CUDA_LIBRARIES)

    def test_whose_code_is_in_it_is_told(self) -> None:
        rootfs = self.make_rootfs("cuda")
        notices = {path.parent.name: path for path in (rootfs / "usr/share/doc").glob("*/copyright")}
        self.assertLessEqual({"libc6", "libgrpc-dev", "libssl3", "zlib1g"}, set(notices))
        # As cudart asks for the driver. A machine without a toolkit builds a server without it.
        has_cuda_runtime = b"libcuda.so.1" in Path(binary("PROGRAMS")).read_bytes()
        self.assertEqual("cuda-cudart" in notices, has_cuda_runtime)
        if has_cuda_runtime:
            self.assertIn("NVIDIA", notices["cuda-cudart"].read_text(errors="replace"))

    def test_nothing_in_it_can_be_changed_by_its_user_or_raises_rights(self) -> None:
        rootfs = self.make_rootfs()
        for path in [rootfs, *rootfs.rglob("*")]:
            status = path.lstat()
            self.assertEqual(status.st_mode & (stat.S_ISUID | stat.S_ISGID), 0, path)
            if path == rootfs / "weights":
                self.assertEqual((status.st_uid, stat.S_IMODE(status.st_mode)), (USER, 0o750))
            else:
                writable = 0 if stat.S_ISLNK(status.st_mode) else status.st_mode & 0o022
                self.assertEqual((status.st_uid, writable), (0, 0), path)

    def test_it_is_small(self) -> None:
        rootfs = self.make_rootfs()
        size = sum(path.lstat().st_size for path in rootfs.rglob("*") if path.is_file())
        layer = self.folder / "layer.tar.gz"
        with tarfile.open(layer, "w:gz", compresslevel=6) as archive:
            archive.add(rootfs, arcname=".")
        print(f"image: {size / MIB:.1f} MiB, compressed {layer.stat().st_size / MIB:.1f} MiB")
        self.assertLess(size, MOST_BYTES)
        self.assertLess(layer.stat().st_size, MOST_COMPRESSED_BYTES)

    def test_an_unknown_device_and_a_folder_that_exists_are_refused(self) -> None:
        for out, device, words in ((self.folder / "new", "tpu", "unknown device"), (self.folder, "host", "exists")):
            command = [os.environ["MAKE_ROOTFS"], str(out), binary("PROGRAMS"), device]
            ended = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(ended.returncode, 1)
            self.assertIn(words, ended.stderr)
        self.assertFalse((self.folder / "new").exists())

    # ---- That it serves --------------------------------------------------------------------------------------------

    def test_it_receives_a_checkpoint_as_its_user_without_rights_and_on_a_read_only_root(self) -> None:
        server = self.start(self.make_rootfs(), "--listen=127.0.0.1:0", "--data-dir=/weights/models")
        status = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE))
        self.assertEqual(status["Uid"].split(), [str(USER)] * 4)
        self.assertEqual(status["Gid"].split(), [str(USER)] * 4)
        self.assertEqual(int(status["CapEff"], 16) | int(status["CapPrm"], 16), 0)
        self.assertEqual(status["NoNewPrivs"], "1")
        mounts = [line.split() for line in Path(f"/proc/{server.pid}/mountinfo").read_text().splitlines()]
        options = {fields[4]: fields[5].split(",") for fields in mounts}
        self.assertIn("ro", options["/"])
        self.assertIn("rw", options["/weights"])

        tensors = some_tensors(seed=6)
        checkpoint = write_sharded(self.folder / "checkpoint", tensors, 2)
        self.push(checkpoint, server.address, "policy")
        self.assert_current(server, "policy", tensors)
        owners = {path.lstat().st_uid for path in server.data_dir.rglob("*")}
        self.assertEqual(owners, {USER})

    def test_a_sender_in_it_finds_a_server_by_name(self) -> None:
        rootfs = self.make_rootfs()
        server = self.start(rootfs, "--listen=127.0.0.1:0", "--data-dir=/weights/models")
        tensors = some_tensors(seed=9)
        # At /weights/checkpoint there.
        write_sharded(self.shared_memory / "checkpoint", tensors, 2)
        to = f"--to=dns:///localhost:{server.port}"
        command = self.inside(rootfs, "/usr/bin/weightstream", "push", "/weights/checkpoint", to, "--model=policy")
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assert_current(server, "policy", tensors)

    def test_the_health_check_of_a_server_with_tls_is_the_page_s(self) -> None:
        page = Path(os.environ["PAGE"]).read_text()
        # The image's own is for the default flags.
        (check,) = (json.loads(found) for found in re.findall(r"^ +CMD (\[.*\])$", page, re.MULTILINE))
        make_certificates(self.folder / "tls", ["weightstream"])
        rootfs = self.make_rootfs()
        tls = self.shared_memory / "tls"
        tls.mkdir()
        for name in ("ca.crt", "tls.crt", "tls.key"):
            shutil.copy(self.folder / "tls" / name, tls)
            os.chown(tls / name, USER, USER)
        flags = ["--tls-cert=/weights/tls/tls.crt", "--tls-key=/weights/tls/tls.key"]
        server = self.start(rootfs, "--listen=127.0.0.1:0", "--data-dir=/weights/models", *flags)
        changes = {"127.0.0.1:7070": server.address, "=/tls/": "=/weights/tls/", "=NAME": "=weightstream"}

        def code(command: Sequence[str]) -> int:
            for word, meant in changes.items():
                command = [argument.replace(word, meant) for argument in command]
            return subprocess.run(self.inside(rootfs, *command), stdout=subprocess.DEVNULL, timeout=60).returncode

        self.assertEqual(code(check), 0)
        self.assertEqual(code(self.healthcheck()), 1)

    def test_it_serves_metrics(self) -> None:
        flags = ["--listen=127.0.0.1:0", "--data-dir=/weights/models", "--metrics-listen=127.0.0.1:0"]
        server = self.start(self.make_rootfs(), *flags)
        self.push(write_sharded(self.folder / "checkpoint", some_tensors(seed=8), 2), server.address, "policy")
        address = re.search(r"metrics address=(\S+)", server.log())
        assert address, server.log()
        with urllib.request.urlopen(f"http://{address[1]}/metrics", timeout=30) as answer:
            scrape = answer.read().decode()
        self.assertIn('\nweightstream_model_current_version{model="policy"} 1\n', scrape)
        self.assertRegex(scrape, r"\nprocess_resident_memory_bytes \d")

    def test_it_cannot_write_beside_its_volume(self) -> None:
        command = self.inside(self.make_rootfs(), *dockerfile_json("ENTRYPOINT"), "--data-dir=/usr/models")
        ended = subprocess.run([*command, "--listen=127.0.0.1:0"], capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("/usr/models", ended.stderr)
        self.assertIn("Read-only file system", ended.stderr)

    def test_its_health_checks_ask_the_server_over_grpc(self) -> None:
        rootfs = self.make_rootfs()
        server = self.start(rootfs, "--listen=127.0.0.1:0", "--data-dir=/weights/models")
        # The Dockerfile's, of the server; and the readiness probe of deploy/kubernetes under TLS, of a model.
        alive = [a.replace("127.0.0.1:7070", server.address) for a in self.healthcheck()]
        ready = [
            *("/usr/bin/weightstream", "watch", f"--to={server.address}", "--model=policy", "--until-version=1"),
            *("--timeout-seconds=2", "--connect-seconds=2"),
        ]

        def code(command: Sequence[str]) -> int:
            return subprocess.run(self.inside(rootfs, *command), stdout=subprocess.DEVNULL, timeout=60).returncode

        self.assertEqual(code(alive), 0)
        self.assertEqual(code(ready), 1)
        checkpoint = write_sharded(self.folder / "checkpoint", some_tensors(seed=7), 2)
        self.push(checkpoint, server.address, "policy")
        self.assertEqual(code(ready), 0)
        server.stop()
        self.assertEqual(code(alive), 1)
        self.assertEqual(code(ready), 1)

    def healthcheck(self) -> list[str]:
        text = Path(os.environ["DOCKERFILE"]).read_text()
        found = re.search(r"^HEALTHCHECK .*\\\n\s*CMD (\[.*\])$", text, re.MULTILINE)
        assert found, text
        arguments: list[str] = json.loads(found[1])
        self.assertIn("--to=127.0.0.1:7070", arguments)
        return arguments

    def test_its_default_flags_are_accepted_and_it_drains_at_the_stop_signal(self) -> None:
        rootfs = self.make_rootfs()
        defaults = [flag.replace(":7070", ":0") for flag in dockerfile_json("CMD")]
        server = self.start(rootfs, *defaults)
        stop = re.search(r"^STOPSIGNAL (\w+)$", Path(os.environ["DOCKERFILE"]).read_text(), re.MULTILINE)
        assert stop
        server.signal(signal.Signals[stop[1]])
        self.assertEqual(server.wait(60), 0)
        self.assertIn("stopped drained=true", server.log())


if __name__ == "__main__":
    python_cases.main()
