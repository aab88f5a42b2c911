"""A model of characters that learns one sentence by heart: what the trainer and the generator of this example share."""

from __future__ import annotations

import torch

SENTENCE = "a stream of weights, whole or not at all. "
ALPHABET = sorted(set(SENTENCE))
MODEL = "tiny"

# So small a model takes longer on several threads, which wait for one another.
torch.set_num_threads(1)


class TinyModel(torch.nn.Module):
    """Predicts the next character."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(len(ALPHABET), 16)
        self.memory = torch.nn.GRU(16, 64, batch_first=True)
        self.head = torch.nn.Linear(64, len(ALPHABET))

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.memory(self.embed(characters))
        logits: torch.Tensor = self.head(hidden)
        return logits


def encode(text: str) -> torch.Tensor:
    """A batch of one text."""
    return torch.tensor([[ALPHABET.index(character) for character in text]])


@torch.no_grad()
def generate(model: TinyModel, characters: int) -> str:
    """Always the likeliest next character, from the sentence's first on."""
    text = SENTENCE[0]
    while len(text) < characters:
        text += ALPHABET[int(model(encode(text))[0, -1].argmax())]
    return text
