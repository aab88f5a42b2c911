"""Generates with each version that comes, from the server's own memory: generate.py ADDRESS (of the same host)."""

from __future__ import annotations

import sys

import weightstream
from tiny_model import MODEL, SENTENCE, TinyModel, generate


def main(address: str) -> None:
    model = TinyModel()
    seen = 0
    with weightstream.Client(address) as client:
        for state in client.watch(MODEL, timeout=300):
            if state.current_version <= seen:
                continue
            version = client.load(MODEL)
            seen = version.version
            # `assign` takes the mapped tensors as they are: nothing is copied.
            model.load_state_dict(version.torch(), assign=True)
            print(f"step {version.metadata['step']}: {generate(model, len(SENTENCE))}", flush=True)
            if version.metadata["last"] == "True":
                return
    raise SystemExit("no last version came within 5 minutes")


if __name__ == "__main__":
    main(sys.argv[1])
