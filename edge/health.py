"""How the daemon and its machine are doing: rates, times, temperature, memory."""

import os
import platform
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from edge.records import Reading

_WINDOW_SECONDS = 60.0
_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")  # Raspberry Pi's firmware, hexadecimal
_MODEL = Path("/proc/device-tree/model")
_THROTTLED_NOW = 0x4  # bit 2: throttled at this moment; bit 18 would be "has been, since boot"


class Statistics:
    """Times of the readings of the last minute; written by the depth thread, read by others."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        # Guards the two that follow.
        self._lock = threading.Lock()
        self._times: deque[tuple[float, float, float]] = deque()
        self._last: Reading | None = None

    def add(self, reading: Reading) -> None:
        """Count a reading."""
        now = time.monotonic()
        with self._lock:
            self._last = reading
            self._times.append((now, reading.scene.depth.inference_seconds, reading.latency_seconds))
            while self._times[0][0] < now - _WINDOW_SECONDS:
                self._times.popleft()

    def snapshot(self) -> dict[str, Any]:
        """Return rates and times: uptime, fps, inference and latency p50/p95 in ms, drops, age of the newest frame."""
        now = time.monotonic()
        with self._lock:
            times, last = [entry for entry in self._times if entry[0] >= now - _WINDOW_SECONDS], self._last
        span = min(_WINDOW_SECONDS, now - self._started_at)
        if len(times) > 1:
            span = max(times[-1][0] - times[0][0], now - times[-1][0])
        return {
            "uptime_s": round(now - self._started_at, 1),
            "fps": round(max(0, len(times) - 1) / span, 2) if span else 0.0,
            "inference_ms": _percentiles([entry[1] for entry in times]),
            "latency_ms": _percentiles([entry[2] for entry in times]),
            "dropped": last.dropped if last else 0,
            "frame_age_s": round(now - last.frame.captured_at, 2) if last else None,
        }


def machine_health() -> dict[str, Any]:
    """Return temperature in degrees Celsius, throttling and resident memory in MB; null where the machine has none."""
    throttled = _read(_THROTTLED)
    temperature = _read(_THERMAL)
    return {
        "temperature_c": round(int(temperature) / 1000, 1) if temperature else None,
        "throttled": bool(int(throttled, 16) & _THROTTLED_NOW) if throttled else None,
        "rss_mb": round(_resident_bytes() / 1e6, 1),
    }


def machine_name() -> str:
    """Return the board's model, or the system and processor where there is no device tree."""
    return _read(_MODEL) or f"{platform.system()} {platform.machine()}"


def processor() -> str:
    """Return the processor's architecture and name; where it has no name, as on arm64, its part numbers."""
    lines = (_read(Path("/proc/cpuinfo")) or "").splitlines()
    found = {line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))}
    return " ".join([platform.machine(), *sorted(found)])


def has_int8_dot_product() -> bool:
    """Return whether the processor multiplies and adds four int8 numbers in one step: VNNI on x86, dotprod on arm64."""
    words = (_read(Path("/proc/cpuinfo")) or "").split()
    return bool({"avx512_vnni", "avx_vnni", "asimddp"}.intersection(words))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _percentiles(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    p50, p95 = np.percentile(seconds, (50, 95)).tolist()
    return {"p50": round(p50 * 1000, 1), "p95": round(p95 * 1000, 1)}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None
