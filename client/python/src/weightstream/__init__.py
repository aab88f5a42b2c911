"""Weightstream: pushes model weights from a trainer to inference servers, over plain gRPC.

with weightstream.Client("10.0.0.5:7070") as client:
    client.push("policy", None, model.named_parameters())

and beside an inference server:

    state_dict = weightstream.Client("127.0.0.1:7070").load("policy").torch()
"""

from weightstream.channel import TlsOptions
from weightstream.client import Client
from weightstream.errors import (
    AbortedError,
    AlreadyExistsError,
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    WeightStreamError,
)
from weightstream.progress import Progress
from weightstream.push import PushResult
from weightstream.spec import TensorSpec
from weightstream.state import (
    CommitHook,
    CommitHookState,
    ModelState,
    RegisteredTargets,
    UpdateInfo,
    UpdateMode,
    UpdateState,
    VersionInfo,
    WeightsState,
)
from weightstream.time_limits import Limits
from weightstream.version import Tensor, Version

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "CancelledError",
    "Client",
    "CommitHook",
    "CommitHookState",
    "DataLossError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "Limits",
    "ModelState",
    "NotFoundError",
    "PermissionDeniedError",
    "Progress",
    "PushResult",
    "RegisteredTargets",
    "ResourceExhaustedError",
    "Tensor",
    "TensorSpec",
    "TlsOptions",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UpdateInfo",
    "UpdateMode",
    "UpdateState",
    "Version",
    "VersionInfo",
    "WeightStreamError",
    "WeightsState",
]
