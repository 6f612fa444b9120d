"""What the daemon tells of itself: times of the frames that the network saw, rates of all readings."""

import dataclasses
from pathlib import Path

import pytest

from edge.daemon.health import STAGES, StageTimes, Statistics
from edge.records import Reading, Scene
from edge.system.machine import machine_health, resident_mb
from tests.scenes import Camera, room


def reading(latency=0.1, age=0.0, inference=0.05):
    depth = dataclasses.replace(Camera().shoot(room()), inference_seconds=inference)
    scene = Scene(depth=depth, state="tracking", quality=1.0)
    return Reading(scene=scene, latency_seconds=latency, dropped=2, depth_age_seconds=age)


def test_before_the_first_reading_there_are_no_times():
    """Nothing is made up: counts are 0, times and the frame's age null."""
    numbers = Statistics().snapshot()
    assert (0, 0.0, 0.0, 0) == tuple(numbers[key] for key in ("readings", "fps", "duty", "dropped"))
    assert [None, None, None] == [numbers[key] for key in ("inference_ms", "latency_ms", "frame_age_s")]


def test_readings_that_rest_count_and_have_no_times():
    """A skipped frame was not waited for and cost no inference: it would make both look better than they are."""
    statistics = Statistics()
    for age in (0.0, 0.2, 0.4, 0.6):
        statistics.add(reading(latency=0.1 if age == 0 else 0.001, age=age))
    numbers = statistics.snapshot()
    assert (4, 2) == (numbers["readings"], numbers["dropped"])
    assert {"p50": 50.0, "p95": 50.0} == numbers["inference_ms"]
    assert {"p50": 100.0, "p95": 100.0} == numbers["latency_ms"]


def test_stages_are_told_apart():
    """The median and the 95th percentile of each, in ms; a stage that there was not is left out."""
    times = StageTimes()
    for milliseconds in range(1, 102):
        times.took("scene", milliseconds / 1000)
    with times.timed("gate"):
        pass
    told = times.snapshot()
    assert {"p50": 51.0, "p95": 96.0} == told["scene"]
    assert ["gate", "scene"] == list(told)
    assert 0 <= told["gate"]["p50"]
    with pytest.raises(KeyError):
        times.took("lunch", 1.0)
    assert STAGES.index("inference") < STAGES.index("scene")


def test_the_memory_of_this_process_is_what_the_system_says():
    """Resident memory, in megabytes: as in /proc/self/status, but for what is taken in between."""
    status = Path("/proc/self/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert kilobytes * 1024 / 1e6 == pytest.approx(resident_mb(), rel=0.1)
    assert machine_health()["rss_mb"] == pytest.approx(resident_mb(), rel=0.1)
