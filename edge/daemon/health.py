"""How the daemon is doing: rates and times of the last minute."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edge.records import Reading

_WINDOW_SECONDS = 60.0
# What a frame goes through, in order. capture: from the camera's exposure to the depth thread, a wait for it included.
STAGES = ("capture", "gate", "preprocess", "inference", "scene", "triggers", "messages", "publish", "heatmap")


class _Window:
    """The values of the last minute, with the time of each; written by one or more threads, read by others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the entries
        self._entries: deque[tuple[float, float]] = deque()

    def add(self, value: float) -> None:
        now = time.monotonic()
        with self._lock:
            self._entries.append((now, value))
            while self._entries[0][0] < now - _WINDOW_SECONDS:
                self._entries.popleft()

    def entries(self) -> list[tuple[float, float]]:
        since = time.monotonic() - _WINDOW_SECONDS
        with self._lock:
            return [entry for entry in self._entries if entry[0] >= since]

    def values(self) -> list[float]:
        return [value for _, value in self.entries()]


class StageTimes:
    """How long each stage of a frame's way took in the last minute; from any thread."""

    def __init__(self) -> None:
        self._windows = {stage: _Window() for stage in STAGES}

    def took(self, stage: str, seconds: float) -> None:
        """Note that a stage, one of `STAGES`, took so long."""
        self._windows[stage].add(seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long what is done within the `with` takes."""
        started = time.monotonic()
        yield
        self.took(stage, time.monotonic() - started)

    def snapshot(self) -> dict[str, dict[str, float]]:
        """Return {stage: p50 and p95 in ms} of the stages that there were."""
        found = {stage: _percentiles(window.values(), 2) for stage, window in self._windows.items()}
        return {stage: times for stage, times in found.items() if times}


class Statistics:
    """Rates and times of the readings of the last minute; written by the depth thread, read by others."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._ages = _Window()
        self._latencies = _Window()
        self._inferences = _Window()
        self._last: Reading | None = None
        self._readings = 0

    def add(self, reading: Reading) -> None:
        """Count a reading."""
        self._last = reading
        self._readings += 1
        self._ages.add(reading.depth_age_seconds)
        if not reading.depth_age_seconds:
            self._latencies.add(reading.latency_seconds)
            self._inferences.add(reading.scene.depth.inference_seconds)

    def snapshot(self) -> dict[str, Any]:
        """Return rates and times: uptime, fps, inference and latency p50/p95 in ms, drops, age of the newest frame.

        `fps` is that of all readings; the times are those of frames that the network saw, and `duty` is how much of the
        time it worked, 0..1.
        """
        now, last = time.monotonic(), self._last
        entries, inferences = self._ages.entries(), self._inferences.values()
        lived = span = min(_WINDOW_SECONDS, now - self._started_at)
        if len(entries) > 1:
            span = max(entries[-1][0] - entries[0][0], now - entries[-1][0])
        return {
            "uptime_s": round(now - self._started_at, 1),
            "readings": self._readings,
            "fps": round(max(0, len(entries) - 1) / span, 2) if span else 0.0,
            "duty": round(sum(inferences) / lived, 3) if lived else 0.0,
            "inference_ms": _percentiles(inferences),
            "latency_ms": _percentiles(self._latencies.values()),
            "dropped": last.dropped if last else 0,
            "frame_age_s": round(now - last.frame.captured_at, 2) if last else None,
        }


def _percentiles(seconds: list[float], digits: int = 1) -> dict[str, float] | None:
    if not seconds:
        return None
    p50, p95 = np.percentile(seconds, (50, 95)).tolist()
    return {"p50": round(p50 * 1000, digits), "p95": round(p95 * 1000, digits)}
