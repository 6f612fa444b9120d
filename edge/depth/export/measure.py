"""Measure one engine on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from edge.config import ModelSection
from edge.depth.engines import folder_of, make_engine
from edge.depth.export.samples import kept, photographs
from edge.depth.weights import WeightsInfo, identify
from edge.evaluation import Agreement, agreement
from edge.records import Floats
from edge.system.machine import machine_health

_FEWEST = 5
_WARM_UP = 3  # TorchScript optimises in its second run


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one engine did: times a frame in ms, its process' memory in MB, and its agreement with float32.

    `cpu_ms` is the time of all its threads, `start_s` what passed from the process' first line to the first output.
    delta1 and residual are null where no engine file was ever made: nothing is kept then to compare with.
    """

    engine: str
    threads: int
    size: tuple[int, int]
    frames: int
    median_ms: float
    p95_ms: float
    cpu_ms: float
    rss_mb: float
    start_s: float
    temperature_c: float | None
    throttled: bool | None
    delta1: float | None
    residual: float | None
    accepted: bool | None


def measure(name: str, section: ModelSection, size: tuple[int, int], seconds: float) -> Measured:
    """Run an engine here on photographs at that network size, (width, height), for some seconds.

    Raises:
        EngineError: it can't be used.
        WeightsError: the weights can't.
    """
    started = time.monotonic()
    info = identify(section.weights)
    engine = make_engine(name, section, info, refused=True)
    pictures = [np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.float32) for each in photographs()]
    engine.run(pictures[0])
    start_seconds = time.monotonic() - started
    for pixels in pictures[:_WARM_UP]:
        engine.run(pixels)
    times: list[float] = []
    cpu = time.process_time()
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at or len(times) < _FEWEST:
        before = time.perf_counter()
        engine.run(pictures[len(times) % len(pictures)])
        times.append(time.perf_counter() - before)
    cpu = (time.process_time() - cpu) / len(times)
    health = machine_health()
    found = _agreement(info, engine.run)
    median, p95 = np.percentile(times, (50, 95)).tolist()
    return Measured(
        engine=name,
        threads=engine.threads,
        size=size,
        frames=len(times),
        median_ms=round(median * 1000, 2),
        p95_ms=round(p95 * 1000, 2),
        cpu_ms=round(cpu * 1000, 2),
        rss_mb=health["rss_mb"],
        start_s=round(start_seconds, 2),
        temperature_c=health["temperature_c"],
        throttled=health["throttled"],
        delta1=None if found is None else round(found.delta1, 4),
        residual=None if found is None else round(found.residual, 4),
        accepted=None if found is None else found.accepted,
    )


def _agreement(info: WeightsInfo, run: Callable[[Floats], Floats]) -> Agreement | None:
    files = folder_of(info)
    if files.record() is None:
        return None
    inputs, outputs = kept(files.folder)
    return agreement([run(pixels) for pixels in inputs], outputs)
