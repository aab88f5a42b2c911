"""Stand-ins for SGLang and vLLM: the endpoints that a commit hook calls, as strict as those servers document them.

docs/hooks.md names the pages. What they do not document (a field, a method, a path) is answered with an error, as is
what cannot be loaded: they read the safetensors files of the folder that they are told of.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.end_to_end.safetensors_file import SafetensorsFile

# SGLang, "Update Weights from Disk": field and type.
_SGLANG_FIELDS = {
    "model_path": str,
    "load_format": str,
    "abort_all_requests": bool,
    "weight_version": str,
    "is_async": bool,
    "torch_empty_cache": bool,
    "keep_pause": bool,
    "recapture_cuda_graph": bool,
    "token_step": int,
    "flush_cache": bool,
}

Answer = tuple[int, Any]


def load_weights(folder: str) -> dict[str, bytes]:
    """Every tensor of the folder's safetensors files, by name; ValueError if there is none, or the path is relative."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files or not Path(folder).is_absolute():
        raise ValueError(f"Cannot find any model weights with `{folder}`")
    weights = {}
    for path in files:
        with SafetensorsFile(path) as file:
            weights.update({name: bytes(file.data(name)) for name in file.tensors})
    return weights


class InferenceServer:
    """Listens on a free port, within this process; close() ends it. Subclasses answer in post()."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.weights: dict[str, bytes] = {}
        # How many requests, from now on, are answered by `failure` instead.
        self.failures = 0
        self.failure: Answer = (503, {"error": "warming up"})
        # While it is not set, requests are not answered.
        self.open = threading.Event()
        self.open.set()
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.open.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def post(self, path: str, body: Any) -> Answer:
        raise NotImplementedError

    def _answer(self, path: str, body: Any) -> Answer:
        with self._lock:
            self.requests.append((path, body))
        self.open.wait()
        with self._lock:
            if self.failures > 0:
                self.failures -= 1
                return self.failure
            try:
                return self.post(path, body)
            except ValueError as error:
                return 400, {"success": False, "message": str(error)}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer: Callable[[str, Any], Answer] = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if text and self.headers["Content-Type"] != "application/json":
                    status, content = 422, {"detail": "Input should be a valid dictionary"}
                else:
                    status, content = answer(urlsplit(self.path).path, json.loads(text) if text else None)
                reply = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply)))
                # Whoever asked may have gone: its time was over, or the test ended it.
                with contextlib.suppress(ConnectionError):
                    self.end_headers()
                    self.wfile.write(reply)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Says nothing: requests are kept for the test."""

        return Handler


class Sglang(InferenceServer):
    """POST /update_weights_from_disk."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_version = "default"

    def post(self, path: str, body: Any) -> Answer:
        if path != "/update_weights_from_disk":
            return 404, {"detail": "Not Found"}
        if not isinstance(body, dict) or "model_path" not in body:
            return 422, {"detail": "Field required: model_path"}
        for name, value in body.items():
            if type(value) is not _SGLANG_FIELDS.get(name):
                return 422, {"detail": f"{name}: {value!r}"}
        self.weights = load_weights(body["model_path"])
        self.weight_version = body.get("weight_version", self.weight_version)
        return 200, {"success": True, "message": "Succeeded to update model weights.", "num_paused_requests": 0}


class Vllm(InferenceServer):
    """What VLLM_SERVER_DEV_MODE=1 adds: POST /collective_rpc with reload_weights, and POST /reset_prefix_cache."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix_cache_is_stale = False

    def post(self, path: str, body: Any) -> Answer:
        if path == "/reset_prefix_cache":
            self.prefix_cache_is_stale = False
            return 200, None
        if path != "/collective_rpc":
            return 404, {"detail": "Not Found"}
        if not isinstance(body, dict) or "method" not in body:
            return 400, {"detail": "Missing 'method' in request body"}
        kwargs = body.get("kwargs", {})
        if body["method"] != "reload_weights" or set(kwargs) - {"weights_path"} or set(body) - {"method", "kwargs"}:
            return 500, {"error": f"cannot call {body}"}
        self.weights = load_weights(kwargs["weights_path"])
        self.prefix_cache_is_stale = True
        return 200, {"results": [None]}
