"""What goes wrong, as exceptions: one class for each canonical gRPC code that means something to a caller.

Each keeps the server's own words, which name the tensor or the model, what was wrong and what to do; `code` is the gRPC
code, also of an error that was found before anything was sent.
"""

from __future__ import annotations

from typing import Any, ClassVar

import grpc


class WeightStreamError(Exception):
    """Any error of this package. `message` is what was said, `address` the server that it was about, if one was."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(self, message: str, address: str = "") -> None:
        super().__init__(f"{address}: {message}" if address else message)
        self.message = message
        self.address = address

    def within(self, context: str) -> WeightStreamError:
        """The same error with a context before its message."""
        return type(self)(f"{context}: {self.message}", self.address)


class InvalidArgumentError(WeightStreamError, ValueError):
    """A bad argument, name, dtype, shape, size or address: the call would fail again."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class ResourceExhaustedError(WeightStreamError):
    """Over the bucket limit, or over the server's memory, disk or threads."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FailedPreconditionError(WeightStreamError):
    """Not in this state: a version that is not newer, or a source that changed while it was sent."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class AlreadyExistsError(WeightStreamError):
    """The version is committed already."""

    code = grpc.StatusCode.ALREADY_EXISTS


class DataLossError(WeightStreamError):
    """Bytes that do not match their checksum, again and again: one damaged chunk is sent once more without a word."""

    code = grpc.StatusCode.DATA_LOSS


class NotFoundError(WeightStreamError):
    """An unknown model, version or update; or a version's file that is not on this host."""

    code = grpc.StatusCode.NOT_FOUND


class AbortedError(WeightStreamError):
    """The update was superseded by a newer one, or aborted."""

    code = grpc.StatusCode.ABORTED


class UnavailableError(WeightStreamError):
    """The server could not be reached for as long as the limits say, or is shutting down."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceededError(WeightStreamError):
    """The server was there, and did not answer or take data in time."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class UnauthenticatedError(WeightStreamError):
    """No token, or one that the server does not know."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDeniedError(WeightStreamError):
    """The token or the certificate does not allow this call on this model."""

    code = grpc.StatusCode.PERMISSION_DENIED


class CancelledError(WeightStreamError):
    """Ended by its caller."""

    code = grpc.StatusCode.CANCELLED


class UnimplementedError(WeightStreamError):
    """The server does not know the call: it is none of ours, or of an older version."""

    code = grpc.StatusCode.UNIMPLEMENTED


class InternalError(WeightStreamError):
    """The server, or what is between, broke its promises."""

    code = grpc.StatusCode.INTERNAL


_BY_CODE: dict[grpc.StatusCode, type[WeightStreamError]] = {
    each.code: each for each in WeightStreamError.__subclasses__()
}


def from_rpc_error(error: grpc.RpcError, address: str) -> WeightStreamError:
    """The exception for what a call ended with."""
    told: Any = error
    return _BY_CODE.get(told.code(), WeightStreamError)(told.details() or told.code().name, address)
