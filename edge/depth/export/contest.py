"""Measure engines, each in a process of its own, since one may break, and keep the fastest."""

import json
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

from edge.config import ModelSection
from edge.depth.engines import NAMES, Record, chosen, folder_of, remember
from edge.depth.export.measure import Measured
from edge.depth.weights import identify
from edge.errors import EngineError
from edge.system import isolated

logger = logging.getLogger(__name__)

_SECONDS = 2.0
_LONGEST_SECONDS = 180.0  # a cold SD card under a cold torch
_POLL_SECONDS = 0.2
_MOST_WORDS = 500
_NONE = "there are no others for these weights yet; `edge-depth export` makes faster ones"
_REFUSED = (
    "the others are not accurate enough for these weights; pictures of your own may help: "
    "`edge-depth export --again --from-camera FILE`"
)


class Interrupted(Exception):
    """The measurement was given up because it is no longer wanted."""


def settled(section: ModelSection, size: tuple[int, int], wanted: Callable[[], bool]) -> ModelSection:
    """Return the section with its engine decided; `auto` is measured where nothing is remembered, and then remembered.

    A choice among some alone, since others could not be measured, holds for this time: what kept them may pass.

    `size` is the network's (width, height). `wanted` is asked several times a second whether to go on; where it says
    no, the section comes back as it was.

    Raises:
        WeightsError: the weights can't be used.
    """
    if section.engine != "auto":
        return section
    info = identify(section.weights)
    try:
        if chosen(section, info):
            return section
        files = folder_of(info)
        record, foreign = files.record(), files.foreign()
    except EngineError as error:
        logger.warning("no engine can be measured: %s; torch takes their place", error)
        return section.model_copy(update={"engine": "torch"})
    if foreign:
        logger.warning("%s", foreign)
    names = _candidates(record)
    if names == ["torch"]:
        logger.info("engine torch: %s", _REFUSED if record and record.engines else _NONE)
        return section
    logger.info("measuring engines, once: %s", ", ".join(names))
    try:
        found = [each for each in measured(section, names, size, _SECONDS, wanted) if isinstance(each, Measured)]
    except Interrupted:
        return section
    name = fastest(found)
    if len(found) == len(names):
        remember(section, info, name)
        logger.info("engine %s is the fastest here: %s", name, "; ".join(map(_words, found)))
    else:
        results = "; ".join(map(_words, found)) or "none could be measured"
        logger.warning("engine %s for now: %s; all are measured again at the next start", name, results)
    return section.model_copy(update={"engine": name})


def _candidates(record: Record | None) -> list[str]:
    """Return the engines that may be chosen; one that was refused when its file was made would not start."""
    accepted = {name for name, file in record.engines.items() if file.accepted} if record else set()
    return [name for name in NAMES if name == "torch" or name in accepted]


def fastest(found: Iterable[Measured]) -> str:
    """Return the fastest engine that is accurate enough; torch, which needs no file, where there is none."""
    accepted = [each for each in found if each.accepted is not False]
    return min(accepted, key=lambda each: each.median_ms).engine if accepted else "torch"


def measured(
    section: ModelSection,
    names: Iterable[str],
    size: tuple[int, int],
    seconds: float,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterable[Measured | str]:
    """Yield what each engine did, or why it can't be measured.

    Raises:
        Interrupted: `wanted` said no.
    """
    for name in names:
        try:
            yield _apart(section, name, size, seconds, wanted)
        except EngineError as error:
            logger.warning("engine %s can't be measured: %s", name, error)
            yield str(error)


def _apart(
    section: ModelSection, name: str, size: tuple[int, int], seconds: float, wanted: Callable[[], bool]
) -> Measured:
    """Measure an engine in a child process.

    Raises:
        EngineError: it can't be used, died, or did not come to an end.
        Interrupted: `wanted` said no.
    """
    request = {"engine": name, "model": section.model_dump(mode="json"), "size": size, "seconds": seconds}
    # The child runs in our folder, where a relative model.weights means the same file.
    with subprocess.Popen(  # noqa: S603 - our own program
        isolated.command("edge.depth.export", json.dumps(request)),
        env=isolated.environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        ends_at = time.monotonic() + seconds + _LONGEST_SECONDS
        try:
            while True:
                try:
                    out, words = process.communicate(timeout=_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if not wanted():
                        raise Interrupted from None
                    if time.monotonic() > ends_at:
                        raise EngineError(f"{name}: no result after {_LONGEST_SECONDS:.0f} s") from None
        finally:
            process.kill()
    if process.returncode:
        raise EngineError(_ending(process.returncode, words))
    return _parse(out)


def _parse(out: str) -> Measured:
    values: dict[str, Any] = json.loads(out)
    return Measured(**values | {"size": tuple(values["size"])})


def _ending(code: int, words: str) -> str:
    if code < 0:
        reason = signal.Signals(-code).name
        return f"its process died of {reason}" + (
            ": this processor lacks an instruction that it uses" if reason == "SIGILL" else ""
        )
    return words.strip()[-_MOST_WORDS:] or f"its process ended with {code}"


def _words(each: Measured) -> str:
    verdict = " (not accurate enough)" if each.accepted is False else ""
    return f"{each.engine} {each.median_ms:.0f} ms{verdict}"
