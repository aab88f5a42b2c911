"""What the figures were measured on, and with."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

_COMMAND_SECONDS = 30


@functools.cache
def _said(*words: str) -> str:
    """What a command says, asked once; "unknown" where it is not there, or fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def memory_bytes(name: str) -> int:
    """A value of /proc/meminfo: MemTotal, MemAvailable."""
    match = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert match, name
    return int(match[1]) << 10


def description() -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", cpu, re.MULTILINE)
    system = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": bool(re.search(r"^flags\s*:.*\bhypervisor\b", cpu, re.MULTILINE)),
        "memory_bytes": memory_bytes("MemTotal"),
        "kernel": platform.release(),
        "system": system.get("PRETTY_NAME", "unknown"),
        "grpc": _said("pkg-config", "--modversion", "grpc++"),
        "protobuf": _said("pkg-config", "--modversion", "protobuf"),
        "compiler": _said("g++", "-dumpfullversion"),
    }


def text(machine: dict[str, Any]) -> str:
    kind = "virtual machine" if machine["virtual"] else "machine"
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / (1 << 30):.0f} GiB, {kind}; "
        f"{machine['system']}, Linux {machine['kernel']}; gRPC {machine['grpc']}, g++ {machine['compiler']}"
    )


def commit() -> dict[str, Any]:
    """The commit that is checked out, and whether files differ from it."""
    changes = _said("git", "status", "--porcelain", "--untracked-files=no")
    return {"id": _said("git", "rev-parse", "HEAD"), "changed_files": changes != ""}
