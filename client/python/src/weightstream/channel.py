"""How a server is reached: address, credentials, and how gRPC is set up."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from weightstream.errors import InvalidArgumentError, NotFoundError
from weightstream.limits import MOST_REPLY_BYTES, Limits

Pem = str | os.PathLike[str] | bytes
"""PEM text as bytes, or the path of a file that holds it."""


@dataclass(frozen=True)
class TlsOptions:
    """How to know the server, and how to be known by it.

    Files are read again for each new connection, so that certificates that were renewed are taken up by themselves.
    """

    ca: Pem | None = None
    """The authorities that may have signed the server's certificate; None is gRPC's built-in list."""
    cert: Pem | None = None
    """Our certificate, where the server asks for one (mTLS); with `key`."""
    key: Pem | None = None
    """The private key of `cert`."""
    server_name: str | None = None
    """The name that the server's certificate must hold, where it is not that of the address."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidArgumentError("TlsOptions needs both cert and key, or neither")


def _pem(value: Pem | None, what: str) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        return Path(value).read_bytes()
    except OSError as error:
        raise NotFoundError(f"cannot read TlsOptions.{what}, {os.fspath(value)}: {error.strerror}") from None


Token = str | Callable[[], str]
"""A bearer token, or what returns the current one: it is called for each call."""

_ADDRESS = re.compile(r"unix:.+|(dns:///)?(\[[0-9a-fA-F:.%\w]+\]|[^\s:/\[\]]+):\d{1,5}")


def _local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.removeprefix("dns:///").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Endpoint:
    """One server: makes channels to it, and the metadata of each call. Any thread may use it."""

    def __init__(
        self, address: str, tls: TlsOptions | bool, token: Token | None, allow_plaintext_token: bool, limits: Limits
    ) -> None:
        if not _ADDRESS.fullmatch(address):
            raise InvalidArgumentError(
                f"{address!r} is no address; give HOST:PORT, [IPV6]:PORT, unix:/PATH or dns:///HOST:PORT"
            )
        self.address = address
        self.limits = limits
        self._tls = (TlsOptions() if tls else None) if isinstance(tls, bool) else tls
        self._token = token
        if token is not None and self._tls is None and not _local(address) and not allow_plaintext_token:
            raise InvalidArgumentError(
                f"the token would go to {address} in plain text, for anyone on the way to read; give tls=, or "
                "allow_plaintext_token=True where the network is trusted"
            )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries."""
        if self._token is None:
            return ()
        token = self._token if isinstance(self._token, str) else self._token()
        return (("authorization", f"Bearer {token.strip()}"),)

    def open_channel(self) -> grpc.Channel:
        """A channel with a TCP connection of its own."""
        options = _options(self.limits)
        if self._tls is None:
            return grpc.insecure_channel(self.address, options)
        if self._tls.server_name:
            options.append(("grpc.ssl_target_name_override", self._tls.server_name))
        credentials = grpc.ssl_channel_credentials(
            _pem(self._tls.ca, "ca"), _pem(self._tls.key, "key"), _pem(self._tls.cert, "cert")
        )
        return grpc.secure_channel(self.address, credentials, options)


def _milliseconds(seconds: float) -> int:
    return max(1, min(int(seconds * 1000), 2**31 - 1))


def _options(limits: Limits) -> list[tuple[str, str | int]]:
    return [
        # Channels with equal arguments share one TCP connection, unless each has its own pool of them.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", _milliseconds(limits.keepalive_time)),
        ("grpc.keepalive_timeout_ms", _milliseconds(limits.keepalive_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", MOST_REPLY_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Despite its name, how long one attempt to connect may take: an address that swallows packets is tried more
        # than once within the limit.
        ("grpc.min_reconnect_backoff_ms", _milliseconds(min(max(limits.connect / 3, 0.1), 10))),
        ("grpc.dns_min_time_between_resolutions_ms", 1000),
        # The client repeats calls itself: it knows which are safe to repeat.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        # Weights go to the address that was given, not by way of whatever http_proxy says.
        ("grpc.enable_http_proxy", 0),
    ]
