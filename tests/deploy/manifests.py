"""What an overlay of deploy/kubernetes renders to, read strictly, and the parts of it that tests ask for."""

from __future__ import annotations

import functools
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

_ROOT = Path(__file__).resolve().parents[2]
_TOOLS = _ROOT / "build/kubernetes"
KUBECTL = _TOOLS / "kubectl"
KUBERNETES = _ROOT / "deploy/kubernetes"
# The oldest with everything that the manifests use: sidecars (1.29) and the sleep action (1.30).
LEAST_KUBERNETES = "1.30"
NEWEST_KUBERNETES = "1.34"

# Why there is nothing to render and check with, where the tools could not be fetched; empty otherwise.
TOOLS_MISSING = "" if KUBECTL.exists() else "no kubectl: run deploy/kubernetes/install_tools"
sys.path[:0] = [str(path) for path in _TOOLS.glob("venv/lib/python*/site-packages")]

if not TOOLS_MISSING:
    import jsonschema
    import kubernetes_validate

Document = dict[str, Any]

_TEXT = {"type": "string", "minLength": 1}


def _strict(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


_ISSUER_REF = _strict(["name", "kind"], name=_TEXT, kind={"enum": ["Issuer", "ClusterIssuer"]})
_DURATION = {"type": "string", "pattern": r"\A([0-9]+(h|m|s))+\Z"}
_USAGES = ["digital signature", "key encipherment", "server auth", "client auth"]

# The custom resources in use, no wider than what the manifests write: Kubernetes' schemas do not know them.
_CUSTOM = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _strict(
        ["selector", "endpoints"],
        selector=_strict(["matchLabels"], matchLabels={"type": "object", "additionalProperties": _TEXT}),
        endpoints={"type": "array", "minItems": 1, "items": _strict(["port"], port=_TEXT, interval=_DURATION)},
    ),
    ("cert-manager.io/v1", "Issuer"): {
        "oneOf": [
            _strict(["selfSigned"], selfSigned=_strict([])),
            _strict(["ca"], ca=_strict(["secretName"], secretName=_TEXT)),
        ]
    },
    ("cert-manager.io/v1", "Certificate"): _strict(
        ["secretName", "issuerRef"],
        secretName=_TEXT,
        commonName=_TEXT,
        dnsNames={"type": "array", "items": _TEXT},
        isCA={"type": "boolean"},
        duration=_DURATION,
        usages={"type": "array", "items": {"enum": _USAGES}},
        issuerRef=_ISSUER_REF,
        privateKey=_strict(
            ["algorithm", "size"],
            algorithm={"enum": ["ECDSA", "RSA", "Ed25519"]},
            size={"type": "integer"},
            rotationPolicy={"enum": ["Always", "Never"]},
        ),
    ),
}


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice, of which YAML keeps the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def overlays() -> list[str]:
    return sorted(path.parent.name for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))


def check_schema(document: Document, version: str) -> None:
    """Raises unless the document has every field that is required and none that is unknown."""
    custom = _CUSTOM.get((document["apiVersion"], document["kind"]))
    if custom is None:
        kubernetes_validate.validate(document, version, strict=True)
        return
    metadata = _strict(["name"], name=_TEXT)
    whole = _strict(["spec"], apiVersion=_TEXT, kind=_TEXT, metadata=metadata, spec=custom)
    jsonschema.validate(document, whole)


def flags_of(arguments: list[str]) -> dict[str, str]:
    """--name=value arguments by name; a switch has the value "true"."""
    flags = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        assert name.startswith("--") and name[2:] not in flags, argument
        flags[name[2:]] = value or "true"
    return flags


class Rendered:
    """One overlay, rendered with kubectl: of our manifests, or of a copy."""

    def __init__(self, overlay: str, root: Path = KUBERNETES) -> None:
        command = [str(KUBECTL), "kustomize", str(root / "overlays" / overlay)]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        # A warning is about a field that will go.
        assert ended.stderr == "", ended.stderr
        self.documents: list[Document] = list(yaml.load_all(ended.stdout, Loader=_StrictLoader))

    def of_kind(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] == kind]

    @cached_property
    def template(self) -> Document:
        (deployment,) = self.of_kind("Deployment")
        template: Document = deployment["spec"]["template"]
        return template

    @property
    def pod(self) -> Document:
        spec: Document = self.template["spec"]
        return spec

    @property
    def containers(self) -> list[Document]:
        return [*self.pod["initContainers"], *self.pod["containers"]]

    @property
    def sidecar(self) -> Document:
        # The first to start, so that the others find a version.
        first: Document = self.pod["initContainers"][0]
        assert first["name"] == "weightstream" and first["restartPolicy"] == "Always", first
        return first

    @property
    def flags(self) -> dict[str, str]:
        return flags_of(self.sidecar["args"])

    @property
    def keeps_files(self) -> bool:
        """Whether versions are files in a volume, and not memory of a GPU."""
        return not self.flags.get("device", "host").startswith("cuda:")

    @property
    def port_names(self) -> set[str]:
        return {port["name"] for container in self.containers for port in container.get("ports", [])}

    def volume(self, name: str) -> Document:
        (found,) = (volume for volume in self.pod["volumes"] if volume["name"] == name)
        return dict(found)

    def secret_at(self, container: Document, path: str) -> str:
        """The name of the secret that the container has mounted there."""
        (mounted,) = (mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == path)
        return str(self.volume(mounted)["secret"]["secretName"])


@functools.cache
def rendered(overlay: str) -> Rendered:
    """Rendered once: kubectl takes a second to start. Not to be changed."""
    return Rendered(overlay)
