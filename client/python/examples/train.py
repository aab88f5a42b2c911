"""Trains the tiny model and pushes it after each step: train.py ADDRESS [STEPS]."""

from __future__ import annotations

import sys

import torch
import weightstream
from tiny_model import MODEL, SENTENCE, TinyModel, encode


def main(address: str, steps: int = 200) -> None:
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    text = encode(SENTENCE * 2)
    with weightstream.Client(address) as client:
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(text[:, :-1])[0], text[0, 1:])
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimizer.step()
            # Who reads the version finds in its metadata what step it is, and whether it is the last.
            metadata = {"step": str(step), "last": str(step == steps)}
            result = client.push(MODEL, None, model.named_parameters(), metadata=metadata)
            if step % 50 == 0:
                print(f"step {step}: loss {loss.item():.3f}, version {result.version}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
