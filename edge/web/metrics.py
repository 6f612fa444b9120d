"""What Prometheus is told."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from edge.results import Board
from edge.web.uploads import Uploads

# Where the numbers of the topic `health` come from: metric, meaning, key.
_GAUGES = (
    ("uptime_seconds", "Time since the start", "uptime_s"),
    ("frames_per_second", "Readings a second over the last minute", "fps"),
    ("frame_age_seconds", "Age of the newest frame", "frame_age_s"),
    ("temperature_celsius", "Temperature of the processor", "temperature_c"),
    ("throttled", "Whether the processor is slowed down by heat or voltage", "throttled"),
    ("broker_connected", "Whether the broker is connected", "mqtt_connected"),
)
_TIMES = (
    ("inference_seconds", "What the network takes for a frame, over the last minute", "inference_ms"),
    ("latency_seconds", "From capture to reading, over the last minute", "latency_ms"),
)
_TOTALS = (
    ("frames_dropped", "Frames that a newer one replaced", "dropped"),
    ("camera_reconnects", "Attempts to open the camera again", "camera_reconnects"),
    ("commands_refused", "Commands that were not obeyed", "commands_refused"),
)


def metrics_text(board: Board, uploads: Uploads) -> tuple[bytes, str]:
    """Return the metrics in Prometheus' text format, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(board, uploads))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    """Reads the board; what is not known has no sample."""

    def __init__(self, board: Board, uploads: Uploads) -> None:
        self._board = board
        self._uploads = uploads

    def collect(self) -> Iterator[Metric]:
        health, info, state = self._board.health(), self._board.info(), self._board.state()
        facts = {key: str(info[key]) for key in ("version", "engine") if key in info}
        yield InfoMetricFamily("edge_depth", "What is running", facts | _weights(info))
        for name, meaning, key in _GAUGES:
            yield from _number(GaugeMetricFamily(f"edge_depth_{name}", meaning), health.get(key))
        if "rss_mb" in health:
            bytes_used = health["rss_mb"] * 1e6
            yield GaugeMetricFamily("edge_depth_resident_memory_bytes", "Resident memory", bytes_used)
        online = health.get("camera") == "online"
        yield GaugeMetricFamily("edge_depth_camera_online", "Whether frames arrive", float(online))
        for name, meaning, key in _TIMES:
            yield from _quantiles(
                GaugeMetricFamily(f"edge_depth_{name}", meaning, labels=["quantile"]), health.get(key)
            )
        for name, meaning, key in _TOTALS:
            yield from _number(CounterMetricFamily(f"edge_depth_{name}", meaning), health.get(key))
        uploads = CounterMetricFamily(
            "edge_depth_uploads", "Uploaded pictures by what became of them", labels=["result"]
        )
        for result, count in self._uploads.counts().items():
            uploads.add_metric([result], count)
        yield uploads
        yield from _reading(state) if state else ()


def _weights(info: dict[str, Any]) -> dict[str, str]:
    return {"weights": str(info["weights"]["name"])} if "weights" in info else {}


def _number(family: Any, value: Any) -> Iterator[Metric]:
    if value is not None:
        family.add_metric([], float(value))
        yield family


def _quantiles(family: GaugeMetricFamily, values: Any) -> Iterator[Metric]:
    for quantile, key in (("0.5", "p50"), ("0.95", "p95")):
        if values and key in values:
            family.add_metric([quantile], values[key] / 1000)
    if family.samples:
        yield family


def _reading(state: dict[str, Any]) -> Iterator[Metric]:
    """Yield the newest reading's numbers; what is not known has no sample."""
    nearest = state["nearest"] or {}
    gauges = (
        ("quality", "How well the frame fits the background, 0 to 1", state["quality"]),
        ("tracking", "Whether the scene can be read", state["scene"]["state"] in ("tracking", "moving")),
        ("nearest_nearness", "Nearness of the nearest region", nearest.get("nearness")),
        ("nearest_metres", "Distance of the nearest region", nearest.get("distance_m")),
    )
    for name, meaning, value in gauges:
        yield from _number(GaugeMetricFamily(f"edge_depth_{name}", meaning), value)
    rows = (
        ("zone_occupied", "Whether something stands in the zone", "zone", state["zones"], "occupied"),
        ("trigger_on", "Whether the trigger is on", "trigger", state["triggers"], "on"),
    )
    for name, meaning, label, entries, key in rows:
        family = GaugeMetricFamily(f"edge_depth_{name}", meaning, labels=[label])
        for entry, values in entries.items():
            if values[key] is not None:
                family.add_metric([entry], float(values[key]))
        yield family
