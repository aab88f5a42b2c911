"""The systemd unit: systemd accepts it, it is hardened, and its server starts and stops as it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

from tests.end_to_end.checkpoints import write_filled
from tests.end_to_end.harness import EndToEndTest
from tests.end_to_end.processes import Server, binary
from tools import python_cases

# As `systemd-analyze security` counts: 0 is nothing exposed, 100 everything. What it still counts is the network.
MOST_EXPOSURE = 20


# What the unit says to put flags into; the administrator's own.
SERVER_CONF = "/etc/weightstream/server.conf"


class Unit:
    """The settings of the unit and of drop-ins, and the command line that systemd would make of them."""

    def __init__(self, *drop_ins: str) -> None:
        self.text = Path(os.environ["UNIT"]).read_text()
        self.settings: dict[str, list[str]] = {}
        for text in (self.text, *drop_ins):
            for line in text.replace("\\\n", " ").splitlines():
                if found := re.fullmatch(r"(\w+)=(.*)", line):
                    self.settings.setdefault(found[1], []).append(found[2])

    def one(self, setting: str) -> str:
        (value,) = self.settings[setting]
        return value

    def arguments(self, server_conf: str = "") -> list[str]:
        """The arguments, with this in the administrator's file: systemd.exec(5) says that what a file sets overrides
        Environment=, and of two settings of one variable the later one holds.
        """
        assert self.one("EnvironmentFile") == f"-{SERVER_CONF}"
        assignments = [word for setting in self.settings["Environment"] for word in shlex.split(setting)]
        assignments += server_conf.splitlines()
        variables = dict(assignment.split("=", 1) for assignment in assignments)
        words: list[str] = []
        for word in shlex.split(self.one("ExecStart"))[1:]:
            words += shlex.split(variables[word[1:]]) if word.startswith("$") else [word]
        return words


class Systemd(EndToEndTest):
    def start(self, unit: Unit) -> Server:
        """The server with the unit's flags, but for the folder and the port."""
        arguments = unit.arguments()
        self.assertIn("--data-dir=/dev/shm/weightstream", arguments)
        self.assertIn("--listen=127.0.0.1:7070", arguments)
        return self.start_server(*(a for a in arguments if not a.startswith(("--data-dir=", "--listen="))))

    def systemd_analyze(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        if not shutil.which("systemd-analyze"):
            self.skipTest("there is no systemd-analyze here; Debian's package systemd has it")
        return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)

    def install(self) -> Path:
        """The unit in a folder of its own, with a program that is there."""
        unit = Unit()
        program = shlex.split(unit.one("ExecStart"))[0]
        installed = self.folder / "weightstream-server.service"
        # systemd looks whether the program is there, and takes no link for one.
        shutil.copy(binary("WEIGHTSTREAM_SERVER"), self.folder / "program")
        installed.write_text(unit.text.replace(program, str(self.folder / "program")))
        return installed

    def check(self, unit: Path) -> None:
        checked = self.systemd_analyze("verify", "--man=no", str(unit))
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    def weaknesses(self, unit: Path) -> dict[str, str]:
        """The settings that could be stricter, as systemd sees them, and what it says of each."""
        arguments = ["security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--json=short", str(unit)]
        checked = self.systemd_analyze(*arguments)
        self.assertEqual(checked.returncode, 0, checked.stdout[-2000:] + checked.stderr)
        return {row["name"]: row["description"] for row in json.loads(checked.stdout) if row["set"] is False}

    def test_systemd_finds_nothing_wrong_in_it(self) -> None:
        self.check(self.install())

    def test_it_exposes_little(self) -> None:
        self.assertNotIn("PrivateDevices=", self.weaknesses(self.install()))

    def test_on_a_host_with_a_gpu_it_has_the_driver_s_devices_and_no_more(self) -> None:
        unit = self.install()
        without = self.weaknesses(unit)
        drop_in = unit.with_name(f"{unit.name}.d") / "gpu.conf"
        drop_in.parent.mkdir()
        shutil.copy(os.environ["GPU_DROP_IN"], drop_in)
        self.check(unit)
        found = self.weaknesses(unit)
        self.assertEqual(
            found.keys() - without.keys(), {"PrivateDevices=", "MemoryDenyWriteExecute=", "SupplementaryGroups="}
        )
        devices = set(re.findall(r"\bchar-([\w-]+)", found["DeviceAllow="])) - {"rtc"}
        self.assertEqual(devices, {"nvidia", "nvidia-frontend", "nvidia-uvm", "nvidia-caps"})

    def test_flags_of_the_administrator_and_of_a_gpu_stand_beside_each_other(self) -> None:
        gpu = Path(os.environ["GPU_DROP_IN"]).read_text()
        device = ["--device=cuda:0", "--exit-on-device-failure"]
        self.assertEqual(set(device) & set(Unit().arguments()), set())
        self.assertLessEqual({"--listen=127.0.0.1:7070", *device}, set(Unit(gpu).arguments()))
        own = "WEIGHTSTREAM_FLAGS=--listen=127.0.0.1:0 --keep-versions=1"
        # As a person may write it who has read the unit alone: not a word of the device.
        arguments = Unit(gpu).arguments(own)
        self.assertLessEqual({"--listen=127.0.0.1:0", "--keep-versions=1", *device}, set(arguments))
        self.assertNotIn("--listen=127.0.0.1:7070", arguments)
        # A device that no machine has; a wrong flag, or one given twice, would end it with 2.
        words = [word.replace("cuda:0", "cuda:999") for word in arguments if not word.startswith("--data-dir=")]
        command = [binary("WEIGHTSTREAM_SERVER"), f"--data-dir={self.data_dir()}", *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, 1, ended.stderr)
        self.assertIn("--device", ended.stderr)

    def test_its_user_is_one_that_systemd_makes(self) -> None:
        declared = re.findall(r"^u (\S+) ", Path(os.environ["SYSUSERS"]).read_text(), re.MULTILINE)
        unit = Unit()
        self.assertEqual(declared, [unit.one("User")])
        self.assertEqual(declared, [unit.one("Group")])

    def test_its_server_receives_with_the_unit_s_flags_and_stops_in_time(self) -> None:
        unit = Unit()
        server = self.start(unit)
        checkpoint = write_filled(self.folder / "model.safetensors", 1, [1000])
        self.push(checkpoint, server.address, "policy")
        drain = re.search(r"--drain-seconds=(\d+)", unit.one("ExecStart"))
        assert drain
        # The drain, and the 5 seconds in which calls that are left are cut.
        self.assertGreater(int(unit.one("TimeoutStopSec")), int(drain[1]) + 5)
        server.signal(signal.Signals[unit.one("KillSignal")])
        self.assertEqual(server.wait(int(unit.one("TimeoutStopSec"))), 0)

    def test_a_wrong_flag_ends_it_with_the_code_that_stops_restarts(self) -> None:
        unit = Unit()
        command = [binary("WEIGHTSTREAM_SERVER"), *unit.arguments(), "--no-such-flag"]
        ended = subprocess.run(command, capture_output=True, timeout=60)
        self.assertEqual(str(ended.returncode), unit.one("RestartPreventExitStatus"))

    def test_its_group_reads_versions_and_others_do_not(self) -> None:
        server = self.start(Unit())
        checkpoint = write_filled(self.folder / "model.safetensors", 1, [1000])
        self.push(checkpoint, server.address, "policy")
        for path in server.data_dir.rglob("*"):
            if path.name != ".lock" and not path.is_symlink():
                self.assertEqual(path.stat().st_mode & 0o777, 0o750 if path.is_dir() else 0o640, path)


if __name__ == "__main__":
    python_cases.main()
