"""Certificates by the commands that docs/security.md shows: a CA, and what it signs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

LOCAL = "DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key: PEM files."""

    certificate: Path
    key: Path


def _openssl(*arguments: str | Path) -> None:
    ended = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    if ended.returncode:
        raise AssertionError(f"openssl {arguments}: {ended.stderr}")


def _request(name: str, pair: Pair, *more: str | Path) -> Pair:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
    _openssl("req", "-x509", *curve, "-subj", f"/CN={name}", "-keyout", pair.key, "-out", pair.certificate, *more)
    return pair


class Ca:
    """A certificate authority that lives in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._pair = _request(name, Pair(folder / f"{name}-ca.pem", folder / f"{name}-ca.key"))

    @property
    def certificate(self) -> Path:
        return self._pair.certificate

    def sign(self, common_name: str, names: str = LOCAL) -> Pair:
        stem = self._folder / f"{self._name}-{common_name}"
        return _request(
            common_name,
            Pair(stem.with_suffix(".pem"), stem.with_suffix(".key")),
            *("-CA", self._pair.certificate, "-CAkey", self._pair.key),
            *("-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"),
        )

    def sign_expired(self, common_name: str, names: str = LOCAL) -> Pair:
        """The same with a certificate that ran out yesterday."""
        pair = self.sign(common_name, names)
        request = pair.certificate.with_suffix(".csr")
        _openssl("x509", "-x509toreq", "-in", pair.certificate, "-key", pair.key, "-copy_extensions", "copyall",
                 "-out", request)  # fmt: skip
        signer = ("-CA", self._pair.certificate, "-CAkey", self._pair.key)
        _openssl("x509", "-req", "-in", request, *signer, "-days", "-1", "-copy_extensions", "copyall",
                 "-out", pair.certificate)  # fmt: skip
        return pair
