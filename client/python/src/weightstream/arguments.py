"""What callers give, checked in one place and before anything is sent.

InvalidArgumentError names the argument, what was wrong with it and what to give: for a wrong type as well, so that one
class says that the call itself is wrong.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

from weightstream.errors import InvalidArgumentError
from weightstream.limits import LARGEST_VERSION, MOST_INTERVAL_SECONDS, MOST_SECONDS


def text(what: str, value: Any) -> str:
    """A str that UTF-8 can hold, so that it can travel."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{what} is {value!r}, not a str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            f"{what} is {value!r}, which is not Unicode text: it holds a lone surrogate"
        ) from None
    return value


def optional_text(what: str, value: Any) -> str | None:
    """The same, or None."""
    return None if value is None else text(what, value)


def whole(what: str, value: Any, least: int, most: int) -> int:
    """A whole number within [least, most], of any type that is one: NumPy's too, but not a bool."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise InvalidArgumentError(f"{what} is {value!r}, not a whole number; give {least} to {most}")
    if not least <= number <= most:
        raise InvalidArgumentError(f"{what} is {number}; give {least} to {most}")
    return number


def seconds(what: str, value: Any, most: float = MOST_SECONDS, zero: bool = False) -> float:
    """A number of seconds above 0, or of 0 too."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (0 < number <= most or (zero and number == 0)):
        least = "0 or more" if zero else "above 0"
        raise InvalidArgumentError(f"{what} is {value!r}; give a number of seconds {least}, at most {most:g}")
    return number


def model(value: Any) -> str:
    """A model's name. What it may be made of the server says."""
    return text("model", value)


def version(value: Any, otherwise: str) -> int | None:
    """A version, or None, which stands for `otherwise`."""
    if value is None:
        return None
    try:
        return whole("version", value, 1, LARGEST_VERSION)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{error.message}, or None for {otherwise}") from None


def held_version(value: Any) -> int:
    """A version that has to be named."""
    return whole("version", value, 1, LARGEST_VERSION)


def interval(value: Any) -> float:
    """Between two states of a watch."""
    return seconds("interval", value, MOST_INTERVAL_SECONDS)


def timeout(value: Any) -> float | None:
    """Of a watch."""
    return None if value is None else seconds("timeout", value, zero=True)


def metadata(value: Any) -> dict[str, str]:
    """None is none."""
    if value is None:
        return {}
    instance("metadata", value, Mapping, "a mapping of str to str")
    return {text("a key of metadata", key): text(f"metadata[{key!r}]", each) for key, each in value.items()}


def names(value: Any) -> list[str] | None:
    """Of tensors; None is all."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidArgumentError(f"names is {value!r}; give a list of tensors' names")
    return [text("a name in names", name) for name in value]


def into(value: Any) -> None:
    """Memory to read into, by tensors' names; None is none."""
    if value is not None:
        instance("into", value, Mapping, "a mapping of names to arrays or tensors")


def cancel(value: Any) -> None:
    """A threading.Event, or what can be asked as one can (another process's); None is none."""
    if value is not None and not callable(getattr(value, "is_set", None)):
        raise InvalidArgumentError(f"cancel is a {type(value).__name__}; give a threading.Event")


def instance(what: str, value: Any, kinds: type | tuple[type, ...], instead: str, or_callable: bool = False) -> None:
    """That it is of one of these types, or something that can be called."""
    if not (isinstance(value, kinds) or (or_callable and callable(value))):
        raise InvalidArgumentError(f"{what} is a {type(value).__name__}; give {instead}")
