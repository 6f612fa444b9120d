"""The soak's own figures: that they would show what is wrong."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))  # they import each other by their bare names
import soak
import soak_parts


def life(number, slope_mb_an_hour, start_mb, seconds=600):
    """Return a process's samples: a leap while it warms up, then a straight line."""
    return [
        soak.Sample(number, age, start_mb + slope_mb_an_hour * age / 3600 + (age < soak.WARM_UP_SECONDS) * -50, 5, 7)
        for age in range(seconds)
    ]


@pytest.mark.parametrize("slope", [0.0, 1.0, 40.0])
def test_the_memory_slope_is_that_of_the_processes(slope):
    """Neither the warm-up nor the leap from one process to the next is taken for a slope."""
    found, error, hours = soak.memory_slope(life(1, slope, 400) + life(2, slope, 600))
    assert slope == pytest.approx(found, abs=1e-6)
    assert error < 1e-6
    assert 2 * (600 - soak.WARM_UP_SECONDS) / 3600 == pytest.approx(hours)


def test_what_the_network_needs_for_a_frame_is_no_slope():
    """20 MB come and go with the frames, towards the end more often; what stays grows by 2 MB an hour."""
    random = np.random.default_rng(0)
    samples = life(1, 2.0, 400, seconds=1800)
    for number, sample in enumerate(samples):
        sample.rss_mb += 20 * (random.random() < 0.3 + 0.4 * number / len(samples))
    assert soak.memory_slope(samples)[0] == pytest.approx(2.0, abs=0.2)


def test_without_a_warm_process_there_is_no_slope():
    """Not zero, but none."""
    assert np.isnan(soak.memory_slope(life(1, 5.0, 400, seconds=30))[0])


@pytest.fixture
def listener(monkeypatch):
    client = SimpleNamespace(subscribe=None, reconnect_delay_set=lambda *_: None, loop_start=lambda: None)
    client.connect_async = lambda *_, **__: None
    monkeypatch.setattr(soak_parts, "Client", lambda _: client)
    made = soak_parts.Listener(1)

    def hear(age=0.1, scene="tracking"):
        taken = datetime.now(UTC) - timedelta(seconds=age)
        state = {"time": taken.isoformat(), "latency_ms": 50.0, "scene": {"state": scene}}
        made._hear(client, None, SimpleNamespace(topic="edge-depth/soak/state", payload=json.dumps(state).encode()))

    made.hear = hear
    return made


def test_what_comes_late_or_out_of_order_is_counted(listener):
    """An old reading is both, and does not pass for a good one; the one that a frozen broker held has its own count."""
    listener.hear()
    good_at = listener.good_at
    assert good_at > 0
    listener.hear(age=60)
    assert (1, 1, 0) == (listener.late, listener.out_of_order, listener.held)
    assert good_at == listener.good_at
    listener.excused = 1
    listener.hear(age=60)
    listener.hear(age=60)
    assert (2, 1) == (listener.late, listener.held)


def test_a_scene_that_is_lost_is_no_recovery(listener):
    """A reading alone is not enough."""
    listener.hear(scene="lost")
    assert (1, 0.0) == (listener.readings, listener.good_at)


def test_a_heartbeat_that_is_missing_is_counted():
    """Of three spans of a heartbeat two had a reading."""
    beat, begun = soak.HEARTBEAT_SECONDS + soak.HEARTBEAT_SLACK_SECONDS, time.monotonic()
    heard = [begun + 0.1, begun + beat + 0.1]
    state = SimpleNamespace(healthy=[(begun, begun + 3 * beat + 0.1)], listener=SimpleNamespace(heard_at=heard))
    assert (3, 2) == soak._heartbeats(state)


def test_a_fault_that_takes_too_long_is_not_recovered_from():
    """15 s are the limit."""
    assert [True, False, False] == [
        soak.Outcome("a", 14.9).recovered,
        soak.Outcome("b", 15.1).recovered,
        soak.Outcome("c", 1.0, "exit status 1").recovered,
    ]
