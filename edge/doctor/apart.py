"""One check in a child process: an illegal instruction, a hang or a lost library takes the child along, not us."""

import os
import signal
import subprocess
from pathlib import Path

from edge.doctor.ailments import Finding, diagnosed
from edge.system import isolated

_TIMEOUT_SECONDS = {"camera": 90.0, "broker": 30.0}
_USUAL_TIMEOUT_SECONDS = 180.0  # a cold SD card
_MOST_WORDS = 400


def try_apart(check: str, config: Path | None) -> Finding:
    """Run one check of `edge.doctor.__main__`; return what it says, or in words how it ended."""
    limit = _TIMEOUT_SECONDS.get(check, _USUAL_TIMEOUT_SECONDS)
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            isolated.command("edge.doctor", check, *([str(config)] if config else [])),
            # beside the service, as it does
            env=isolated.environment({"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000")}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return diagnosed(check, f"has not ended after {limit:g} s")
    said = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == 0:
        return diagnosed(check, said) if "picture is black" in said else Finding("ok", check, said)
    return diagnosed(check, _ending(done.returncode, done.stderr.strip()))


def _ending(code: int, errors: str) -> str:
    last = errors.rpartition("\n")[2][:_MOST_WORDS]
    if code >= 0:
        return last or f"ended with {code}"
    return f"stopped by {signal.Signals(-code).name}" + (f" ({last})" if last else "")
