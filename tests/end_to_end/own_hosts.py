"""A network and a /etc/hosts of this process's own: names that stand for several servers of this machine."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
# Who is asked for names that are not in /etc/hosts: nobody, which is an answer at once, unless a test listens there.
RESOLVER = ("127.0.0.1", 53)
_RESOLVER_SECONDS = 30
_LIBC = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def enter(folder: Path) -> str:
    """Moves this process into namespaces of its own, for good; its children follow. Why that cannot be, or empty.

    To be called before there are threads. Nobody else then takes a port, and set_hosts changes nobody else's names.
    """
    try:
        _check(_LIBC.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")
        _check(_LIBC.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
        hosts = folder / "hosts"
        hosts.write_text("")
        _check(_LIBC.mount(str(hosts).encode(), b"/etc/hosts", None, _MS_BIND, None), "mount /etc/hosts")
        resolver = folder / "resolv.conf"
        resolver.write_text(f"nameserver {RESOLVER[0]}\noptions timeout:{_RESOLVER_SECONDS} attempts:1\n")
        _check(_LIBC.mount(str(resolver).encode(), b"/etc/resolv.conf", None, _MS_BIND, None), "mount resolv.conf")
        _bring_loopback_up()
    except OSError as error:
        return f"needs namespaces of its own, which root may make: {error}"
    return ""


def set_hosts(folder: Path, addresses: dict[str, list[str]]) -> None:
    """From now on these names have these addresses, and no others have any."""
    lines = [f"{address} {name}\n" for name, own in addresses.items() for address in own]
    # Written, not replaced: the mount is of this file.
    (folder / "hosts").write_text("".join(lines))
