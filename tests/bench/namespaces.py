"""A link with delay, loss and a rate between two network namespaces of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from tests.bench.contenders import Settings
from tests.bench.processes import START_SECONDS, BenchError, Process

DELAY_MS = 25
LOSS_PERCENT = 0.1
RATE_MBIT = 1000
# So large that only `loss` loses: 100 ms of the rate would be 8,000 packets.
QUEUE_PACKETS = 100_000
# A TUN device's own queue, which is full in a burst of the default 500.
DEVICE_QUEUE_PACKETS = 20_000

SENDER_ADDRESS = "10.209.77.1"
RECEIVER_ADDRESS = "10.209.77.2"
_DEVICE = "link0"
_COMMAND_SECONDS = 30


def unavailable() -> str:
    """Why there can be no link here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    missing = [name for name in ("ip", "tc") if not shutil.which(name)]
    return f"needs the commands {' and '.join(missing)} of iproute2" if missing else ""


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Link:
    """Two namespaces and what is between them, as a context; gone at its end, whatever happened.

    The kernel's netem makes the delay and the loss where it has it; else slow_link does, which see.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._sender, self._receiver = f"bench-{os.getpid()}-a", f"bench-{os.getpid()}-b"
        self.made_by = ""

    @property
    def at_sender(self) -> list[str]:
        """What to put before a command that is to run at the sender's end."""
        return ["ip", "netns", "exec", self._sender]

    @property
    def at_receiver(self) -> list[str]:
        return ["ip", "netns", "exec", self._receiver]

    def __enter__(self) -> Self:
        try:
            for space in (self._sender, self._receiver):
                _run("ip", "netns", "add", space)
                self._stack.callback(_run, "ip", "netns", "del", space)
                _run("ip", "-n", space, "link", "set", "lo", "up")
                # A round is not to start with what an earlier one learned of the link.
                self._set(space, "net/ipv4/tcp_no_metrics_save", "1")
            try:
                self._make_with_netem()
            except BenchError as error:
                self._make_with_slow_link(f"the kernel has no netem ({error})")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def system_setting(self, name: str) -> str:
        """A value below /proc/sys, as the sender's end has it."""
        return _run(*self.at_sender, "cat", f"/proc/sys/{name}").strip()

    def _set(self, space: str, name: str, value: str) -> None:
        _run("ip", "netns", "exec", space, "sh", "-c", f"echo {value} > /proc/sys/{name}")

    def _ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return (self._sender, SENDER_ADDRESS), (self._receiver, RECEIVER_ADDRESS)

    def _bring_up(self, space: str, address: str) -> None:
        _run("ip", "-n", space, "addr", "add", f"{address}/30", "dev", _DEVICE)
        _run("ip", "-n", space, "link", "set", _DEVICE, "up")

    def _make_with_netem(self) -> None:
        ends = ["netns", self._sender, "type", "veth", "peer", "name", _DEVICE, "netns", self._receiver]
        _run("ip", "link", "add", _DEVICE, *ends)
        netem = ["netem", "delay", f"{DELAY_MS}ms", "loss", f"{LOSS_PERCENT}%", "rate", f"{RATE_MBIT}mbit"]
        try:
            for space, address in self._ends():
                # Packets are lost, not bursts of 64 KiB, as on a wire.
                _run("ip", "-n", space, "link", "set", _DEVICE, "gso_max_segs", "1")
                limit = ["limit", str(QUEUE_PACKETS)]
                _run("tc", "-n", space, "qdisc", "add", "dev", _DEVICE, "root", *netem, *limit)
                self._bring_up(space, address)
        except BenchError:
            _run("ip", "-n", self._sender, "link", "del", _DEVICE)
            raise
        self.made_by = "veth and netem"

    def _make_with_slow_link(self, why: str) -> None:
        program = self._settings.benchmarks / "slow_link"
        if not Path("/dev/net/tun").exists():
            raise BenchError(f"{why}, and there is no /dev/net/tun for {program.name}")
        for space, address in self._ends():
            _run("ip", "-n", space, "tuntap", "add", "dev", _DEVICE, "mode", "tun")
            _run("ip", "-n", space, "link", "set", _DEVICE, "txqueuelen", str(DEVICE_QUEUE_PACKETS))
            self._bring_up(space, address)
        flags = [f"--delay_ms={DELAY_MS}", f"--loss={LOSS_PERCENT / 100}", f"--mbit={RATE_MBIT}"]
        flags.append(f"--queue_packets={QUEUE_PACKETS}")
        words: list[str | Path] = [program, self._sender, _DEVICE, self._receiver, _DEVICE, *flags]
        process = self._stack.enter_context(Process(words, self._settings.new_path("slow_link.log")))
        process.line("sign of carrying", START_SECONDS)
        self.made_by = "TUN devices and slow_link, as the kernel has no netem"
