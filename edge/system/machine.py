"""What is known of this machine: its name, processor, temperature, and the memory that this process holds."""

import os
import platform
from pathlib import Path
from typing import Any

_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")  # Raspberry Pi's firmware, hexadecimal
_MODEL = Path("/proc/device-tree/model")
_CPUINFO = Path("/proc/cpuinfo")
_THROTTLED_NOW = 0x4  # bit 2: throttled at this moment; bit 18 would be "has been, since boot"


def machine_health() -> dict[str, Any]:
    """Return temperature in degrees Celsius, throttling and resident memory in MB; null where the machine has none."""
    throttled = _read(_THROTTLED)
    return {
        "temperature_c": temperature(),
        "throttled": bool(int(throttled, 16) & _THROTTLED_NOW) if throttled else None,
        "rss_mb": round(resident_mb(), 1),
    }


def temperature() -> float | None:
    """Return the processor's temperature in degrees Celsius, or null where the machine does not tell."""
    found = _read(_THERMAL)
    return round(int(found) / 1000, 1) if found else None


def resident_mb() -> float:
    """Return the memory in megabytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def machine_name() -> str:
    """Return the board's model, or the system and processor where there is no device tree."""
    return _read(_MODEL) or f"{platform.system()} {platform.machine()}"


def processor() -> str:
    """Return the processor's architecture and name; where it has no name, as on arm64, its part numbers."""
    lines = (_read(_CPUINFO) or "").splitlines()
    found = {line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))}
    return " ".join([platform.machine(), *sorted(found)])


def has_int8_dot_product() -> bool:
    """Return whether the processor multiplies and adds four int8 numbers in one step: VNNI on x86, dotprod on arm64."""
    words = (_read(_CPUINFO) or "").split()
    return bool({"avx512_vnni", "avx_vnni", "asimddp"}.intersection(words))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None
