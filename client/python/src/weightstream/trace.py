"""W3C Trace Context: which trace a push belongs to, told to the server in each of its calls, for the server's log."""

from __future__ import annotations

import os
import re
import secrets

from weightstream import arguments
from weightstream.errors import InvalidArgumentError

VARIABLE = "TRACEPARENT"
"""Where OpenTelemetry puts the context of a process."""

_SPAN_BYTES = 8
# Sampled (level 1), and that the trace id is random (level 2): the flags that version 00 defines.
_KNOWN_FLAGS = 0x03
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


def _child_of(parent: str) -> str | None:
    """A new span of the parent's trace, as a traceparent; None if the parent is none."""
    found = _FORM.fullmatch(parent)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    # Later versions may have more fields; this one has not, and ff is none.
    if version == "ff" or (version == "00" and more is not None) or not int(trace, 16) or not int(span, 16):
        return None
    child = secrets.token_hex(_SPAN_BYTES)
    while not int(child, 16):
        child = secrets.token_hex(_SPAN_BYTES)
    return f"00-{trace}-{child}-{int(flags, 16) & _KNOWN_FLAGS:02x}"


def traceparent_for_push(parent: str | None) -> str | None:
    """Of a span of its own, below `parent` or else what the environment says; None where there is no trace.

    InvalidArgumentError for a parent that is no traceparent. The environment's is then passed over, as the
    specification wants.
    """
    if parent is None:
        return _child_of(os.environ.get(VARIABLE, ""))
    child = _child_of(arguments.text("traceparent", parent))
    if child is None:
        raise InvalidArgumentError(
            f"traceparent is {parent!r}; give one of W3C Trace Context, 00-TRACE-SPAN-FLAGS in lower-case hexadecimal"
        )
    return child
