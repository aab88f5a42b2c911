"""How a server is reached: address, credentials, and how gRPC is set up."""

from __future__ import annotations

import copy
import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from weightstream import arguments
from weightstream.errors import InvalidArgumentError, NotFoundError
from weightstream.limits import MOST_REPLY_BYTES
from weightstream.time_limits import Limits

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
        kinds = (str, bytes, os.PathLike, type(None))
        for what in ("ca", "cert", "key"):
            arguments.instance(f"TlsOptions.{what}", getattr(self, what), kinds, "PEM text as bytes, or a file's path")
        arguments.optional_text("TlsOptions.server_name", self.server_name)
        if (self.cert is None) != (self.key is None):
            raise InvalidArgumentError("TlsOptions needs both cert and key, or neither")


def read_pem(value: Pem | None, what: str) -> bytes | None:
    """The PEM text of a field of TlsOptions; NotFoundError names the field and the file that cannot be read."""
    if value is None or isinstance(value, bytes):
        return value
    try:
        return Path(os.fsdecode(value)).read_bytes()
    except OSError as error:
        raise NotFoundError(f"cannot read TlsOptions.{what}, {os.fsdecode(value)}: {error.strerror}") from None
    except ValueError as error:
        raise InvalidArgumentError(f"TlsOptions.{what}, {os.fspath(value)!r}, is no path: {error}") from None


Token = str | Callable[[], str]
"""A bearer token, or what returns the current one: it is called for each call."""

# What a header can carry: RFC 6750.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")

_ADDRESS = re.compile(r"unix:.+|(dns:///)?(\[[0-9a-fA-F:.%\w]+\]|[^\s:/\[\]]+):\d{1,5}")
_PORTS = range(1, 1 << 16)


def split_address(address: str) -> tuple[str, int | None]:
    """Host and port; of a unix socket its path, and no port."""
    if address.startswith("unix:"):
        return address.removeprefix("unix:").removeprefix("//"), None
    host, _, port = address.removeprefix("dns:///").rpartition(":")
    return host.strip("[]"), int(port)


def _valid(address: str) -> bool:
    if not _ADDRESS.fullmatch(address):
        return False
    port = split_address(address)[1]
    return port is None or port in _PORTS


def _local(address: str) -> bool:
    host, port = split_address(address)
    if port is None:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Endpoint:
    """One server: makes channels to it, and the metadata of each call. Any thread may use it."""

    def __init__(
        self, address: str, tls: TlsOptions | bool, token: Token | None, allow_plaintext_token: bool, limits: Limits
    ) -> None:
        if not _valid(arguments.text("address", address)):
            raise InvalidArgumentError(
                f"{address!r} is no address; give HOST:PORT, [IPV6]:PORT, unix:/PATH or dns:///HOST:PORT"
            )
        arguments.instance("tls", tls, (bool, TlsOptions), "True, False or TlsOptions")
        arguments.instance("token", token, (str, type(None)), "a str, or what returns one", or_callable=True)
        # What is merely true, such as "no", is more likely a mistake.
        arguments.instance("allow_plaintext_token", allow_plaintext_token, bool, "True or False")
        arguments.instance("limits", limits, Limits, "a weightstream.Limits")
        self.address = address
        self.limits = limits
        self.tls = (TlsOptions() if tls else None) if isinstance(tls, bool) else tls
        self._token = token
        self.traceparent: str | None = None
        if token is not None and self.tls is None and not _local(address) and not allow_plaintext_token:
            raise InvalidArgumentError(
                f"the token would go to {address} in plain text, for anyone on the way to read; give tls=, or "
                "allow_plaintext_token=True where the network is trusted"
            )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries."""
        metadata = []
        if self._token is not None:
            metadata.append(("authorization", f"Bearer {self._current_token()}"))
        if self.traceparent is not None:
            metadata.append(("traceparent", self.traceparent))
        return tuple(metadata)

    def _current_token(self) -> str:
        assert self._token is not None
        token = self._token if isinstance(self._token, str) else self._token()
        arguments.instance("what token() returned", token, str, "a str")
        token = token.strip()
        if not _TOKEN.fullmatch(token):
            # Never quoted: it may be one that something was added to.
            raise InvalidArgumentError(
                f"the token, of {len(token)} characters, is none that a header can carry: A-Z a-z 0-9 - . _ ~ + / and "
                "= at the end"
            )
        return token

    def traced(self, traceparent: str | None) -> Endpoint:
        """The same server, told with each call which span of a trace it is for."""
        endpoint = copy.copy(self)
        endpoint.traceparent = traceparent
        return endpoint

    def open_channel(self) -> grpc.Channel:
        """A channel with a TCP connection of its own."""
        options = _options(self.limits)
        if self.tls is None:
            return grpc.insecure_channel(self.address, options)
        if self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        credentials = grpc.ssl_channel_credentials(
            read_pem(self.tls.ca, "ca"), read_pem(self.tls.key, "key"), read_pem(self.tls.cert, "cert")
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
