"""How far a transfer is: told to the caller, or drawn with tqdm."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from weightstream import arguments
from weightstream.errors import InvalidArgumentError


@dataclass(frozen=True)
class Progress:
    """How far a push or a pull is, in bytes of tensors' data."""

    phase: str
    """connecting, beginning, sending, committing or receiving, and at last done."""
    version: int
    total_bytes: int
    moved_bytes: int
    """Handed to the connection or landed; falls when a lost connection makes bytes go again."""
    resumed_bytes: int
    """Landed before this transfer began: what a resume saved."""
    retries: int


ProgressOption: TypeAlias = "bool | Callable[[Progress], None]"
"""False for none, True for a bar by tqdm, or a function, called from the calling thread some twenty times a second."""


class _Bar:
    def __init__(self, title: str) -> None:
        try:
            tqdm = importlib.import_module("tqdm.auto").tqdm
        except ImportError:
            raise InvalidArgumentError(
                "progress=True draws with tqdm, which is not installed: pip install tqdm"
            ) from None
        self._bar: Any = tqdm(desc=title, unit="B", unit_scale=True, unit_divisor=1024)

    def __call__(self, progress: Progress) -> None:
        self._bar.total = progress.total_bytes
        self._bar.n = progress.moved_bytes + progress.resumed_bytes
        self._bar.set_postfix_str(progress.phase, refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class Reporter:
    """Passes progress on, until it is left."""

    def __init__(self, option: ProgressOption, title: str) -> None:
        arguments.instance("progress", option, bool, "True, False or a function", or_callable=True)
        self._bar = _Bar(title) if option is True else None
        self._tell = self._bar or (option if callable(option) else None)

    def tell(self, progress: Progress) -> None:
        """To whoever asked for it."""
        if self._tell:
            self._tell(progress)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.close()
