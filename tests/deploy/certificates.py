"""The secrets that the manifests mount, as cert-manager or a person with openssl would make them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", "req", "-x509", *_KEY, *map(str, arguments)], check=True, capture_output=True)


def _signed(folder: Path, authority: Path, name: str, usage: str, names: Sequence[str]) -> None:
    folder.mkdir(exist_ok=True)
    extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}"]
    if names:
        extensions += ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    signer: list[str | Path] = ["-CA", authority / "ca.crt", "-CAkey", authority / "ca.key"]
    _openssl("-subj", f"/CN={name}", "-keyout", folder / "tls.key", "-out", folder / "tls.crt", *signer, *extensions)
    if folder != authority:
        shutil.copy(authority / "ca.crt", folder)


def make_certificates(folder: Path, names: Sequence[str]) -> None:
    """Makes "weightstream-tls" in the folder, with these names, and in its subfolders "weightstream-sender-tls" and
    "weightstream-inference-tls", of the clients.
    """
    folder.mkdir()
    _openssl("-subj", "/CN=weightstream-ca", "-keyout", folder / "ca.key", "-out", folder / "ca.crt")
    _signed(folder, folder, "weightstream", "serverAuth,clientAuth", names)
    for client in ("sender", "inference"):
        _signed(folder / client, folder, f"weightstream-{client}", "clientAuth", [])
