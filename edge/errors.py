"""The errors that a user can meet, each with the exit code that systemd acts on.

Every message says what is wrong, the value, what is allowed and where.
"""

from typing import Literal


class EdgeError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the process's exit status."""

    exit_code = 70


class ConfigError(EdgeError, ValueError):
    """The configuration is wrong; `problems` holds one line for each thing to mend."""

    exit_code = 78

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class WeightsError(EdgeError, RuntimeError):
    """A weights file is missing, damaged or not what it claims to be."""

    exit_code = 78


class PictureError(EdgeError, ValueError):
    """A picture can't be read, or can't be used; `fault` says whether for its size, its kind or some damage."""

    exit_code = 65

    def __init__(self, message: str, fault: Literal["size", "kind", "damage"] = "damage") -> None:
        super().__init__(message)
        self.fault = fault


class CameraError(EdgeError, OSError):
    """The camera can't be opened or has gone away."""

    exit_code = 69


class CameraStalled(CameraError, TimeoutError):
    """The camera is open but delivers no frame before its deadline."""


class EngineError(EdgeError, RuntimeError):
    """The network can't be run on this machine."""

    exit_code = 70


class MemoryFull(EdgeError, MemoryError):
    """The daemon holds more memory than it may: only a clean process gives it back."""

    exit_code = 70


class ThreadStuck(EdgeError, RuntimeError):
    """A worker thread did not end when it was asked to."""

    exit_code = 70


class NotReady(EdgeError):
    """The network can't be had now; the message says why."""


class Busy(Exception):
    """Nobody takes the command in time: the network is being loaded, or too many commands wait."""


class Stale(Exception):
    """What is to be changed was changed by somebody else in the meantime."""
