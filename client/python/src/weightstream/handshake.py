"""Why no connection comes about where TLS is the reason, in words: gRPC says of most such failures only that there is
none, and to try again would not help.

As client/handshake_probe of the C++ client: connects once more by hand, and looks.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator

import grpc

from weightstream.channel import Endpoint, TlsOptions, read_pem, split_address
from weightstream.errors import UnauthenticatedError, WeightStreamError
from weightstream.limits import PROBE_SECONDS

# gRPC's words for a server whose certificate is for another name, and OpenSSL's and BoringSSL's for one that they do
# not believe.
_WRONG_NAME = ("is not in peer certificate", "verification check failed")
_NOT_BELIEVED = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed")
# Nobody has answered: there is no handshake to look into.
_NOT_REACHED = ("Connection refused", "DNS resolution failed")
# TLS: the message in which a server asks for the client's certificate.
_CERTIFICATE_REQUEST = 13

_SPEAKS_TLS = "the server speaks TLS and this client plaintext; give tls="
_CERTIFICATE_MISSING = "the server requires a client certificate; give one as TlsOptions.cert and key"


def explained(endpoint: Endpoint, error: WeightStreamError) -> WeightStreamError:
    """The error of a call; or an UnauthenticatedError that says why, where a handshake is what failed."""
    if error.code is not grpc.StatusCode.UNAVAILABLE or any(word in error.message for word in _NOT_REACHED):
        return error
    cause = _from_words(error.message) or _probe(endpoint)
    if not cause and any(word in error.message for word in _NOT_BELIEVED):
        cause = (
            f"the server's certificate is not accepted; give the CA that signed it as TlsOptions.ca ({error.message})"
        )
    return UnauthenticatedError(f"TLS handshake failed: {cause}", endpoint.address) if cause else error


def _from_words(message: str) -> str:
    if not any(word in message for word in _WRONG_NAME):
        return ""
    return (
        "the server's certificate is for another name; use one of its names in the address, or give it as "
        f"TlsOptions.server_name ({message})"
    )


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """A file for who takes nothing else; a key must not come to lie on a disk."""
    descriptor = os.memfd_create("weightstream-pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _context(tls: TlsOptions | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Names are compared by gRPC, whose words say what it found.
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    ca = read_pem(tls.ca, "ca") if tls else None
    if ca is None:
        # gRPC's own list, which is not ours to have.
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=ca.decode("ascii", "replace"))
    cert = read_pem(tls.cert, "cert") if tls else None
    key = read_pem(tls.key, "key") if tls else None
    if cert is not None and key is not None:
        with _memory_file(cert) as cert_path, _memory_file(key) as key_path:
            # gRPC takes no key with a passphrase, and OpenSSL would ask the terminal for one.
            context.load_cert_chain(cert_path, key_path, password="")
    return context


def _connect(address: str) -> socket.socket:
    host, port = split_address(address)
    if port is not None:
        return socket.create_connection((host, port), timeout=PROBE_SECONDS)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PROBE_SECONDS)
    connection.connect(host)
    return connection


def _server_name(endpoint: Endpoint) -> str | None:
    """What decides which of its certificates a server shows."""
    if endpoint.tls and endpoint.tls.server_name:
        return endpoint.tls.server_name
    host, port = split_address(endpoint.address)
    return None if port is None else host


def _probe(endpoint: Endpoint) -> str:
    """What is wrong with the handshake; nothing if it works, or if there is no telling."""
    try:
        context = _context(endpoint.tls)
    except ssl.SSLError as error:
        return f"TlsOptions holds what OpenSSL does not take: {error}; check that key is the key of cert"
    asked = False

    def note(_: object, direction: str, __: object, ___: object, kind: int, ____: bytes) -> None:
        nonlocal asked
        asked = asked or (direction == "read" and kind == _CERTIFICATE_REQUEST)

    # The one way to see that the server asked: gRPC's server closes without an alert, whatever it did not like.
    context._msg_callback = note  # type: ignore[attr-defined]
    try:
        return _shake_hands(endpoint, context, lambda: asked)
    except ssl.SSLError as error:
        return _of_handshake(error, endpoint.tls)
    except (OSError, ValueError):
        # Closed, reset, or silent; or a name that Python thinks is none.
        return _refused(endpoint.tls) if asked else ""


def _shake_hands(endpoint: Endpoint, context: ssl.SSLContext, asked: Callable[[], bool]) -> str:
    with (
        _connect(endpoint.address) as connection,
        context.wrap_socket(connection, server_hostname=_server_name(endpoint)) as secured,
    ):
        if endpoint.tls is None:
            return _SPEAKS_TLS
        if secured.selected_alpn_protocol() != "h2":
            return "the server speaks TLS but not HTTP/2 with it; is it a weightstream-server?"
        # In TLS 1.3 what the server thinks of our certificate comes after the handshake; HTTP/2's first frame else.
        return "" if secured.recv(1) or not asked() else _refused(endpoint.tls)


def _refused(tls: TlsOptions | None, reason: str = "") -> str:
    if tls is None:
        return _SPEAKS_TLS
    if tls.cert is None:
        return _CERTIFICATE_MISSING
    return (
        f"the server refuses this client's certificate{reason and f' ({reason})'}; give one as TlsOptions.cert that a "
        "CA in the server's --tls-client-ca signed and that has not expired"
    )


def _of_handshake(error: ssl.SSLError, tls: TlsOptions | None) -> str:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the server's certificate is not accepted: {error.verify_message}; give the CA that signed it as "
            "TlsOptions.ca, or renew the certificate on the server"
        )
    if "ALERT" in reason:
        about_ours = tls is None or tls.cert is not None or "CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason
        return _refused(tls, reason) if about_ours else f"the server refused: {reason}"
    # What a plaintext server answers is no record of TLS. To a plaintext client that is as it should be.
    if tls is not None and reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        return "the server does not speak TLS; leave out tls=, or start the server with --tls-cert and --tls-key"
    return ""
