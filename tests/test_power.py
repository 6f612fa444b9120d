"""The governor: a share of the time, and less of it as the machine gets hot, smoothly."""

import itertools

import pytest

from edge.config import PowerSection
from edge.daemon.power import Governor


class Machine:
    """A clock and a thermometer that a test sets."""

    def __init__(self, **keys):
        self.now = 100.0
        self.celsius = None
        self.governor = Governor(PowerSection(**keys), lambda: self.celsius, lambda: self.now)

    def work(self, seconds=0.1, celsius=None):
        """Let the network work; return how long it has to rest then."""
        self.now += max(3.0, seconds)  # long enough for the temperature to be read anew
        self.celsius = celsius
        self.governor.worked(seconds)
        return self.governor.rest_seconds()


def test_without_limits_there_is_no_rest():
    """The share is all of the time, whatever the machine's temperature is or whether it has one."""
    machine = Machine(max_temperature=None)
    assert [0.0, 0.0] == [machine.work(), machine.work(celsius=120.0)]
    assert 1.0 == machine.governor.allowed_duty


@pytest.mark.parametrize("duty", [0.05, 0.3, 0.5])
def test_the_network_works_for_its_share_of_the_time(duty):
    """Work and rest together are as long as that share makes them, from the beginning of the work on."""
    rest = Machine(max_duty=duty).work(0.2)
    assert duty == pytest.approx(0.2 / (0.2 + rest))


def test_time_that_went_by_counts_as_rest():
    """Whoever waited for a frame need not rest again."""
    machine = Machine(max_duty=0.25)
    rest = machine.work(0.1)
    machine.now += 0.2
    assert rest - 0.2 == pytest.approx(machine.governor.rest_seconds())
    machine.now += 5
    assert 0 == machine.governor.rest_seconds()


def test_it_slows_down_smoothly_before_the_limit():
    """From ten degrees below on the share falls evenly; at the limit and above, a twentieth is left."""
    machine = Machine(max_temperature=80.0)
    shares = []
    for celsius in range(60, 96):
        machine.work(celsius=float(celsius))
        shares.append(machine.governor.allowed_duty)
    assert shares == sorted(shares, reverse=True)
    assert [1.0, 1.0, 0.5, 0.05, 0.05] == pytest.approx([shares[celsius - 60] for celsius in (60, 70, 75, 80, 95)])
    assert max(before - after for before, after in itertools.pairwise(shares)) < 0.11


def test_both_limits_hold_together():
    """Half of the time at 75 of 80 degrees is half of the share that is allowed."""
    machine = Machine(max_duty=0.4, max_temperature=80.0)
    machine.work(celsius=75.0)
    assert 0.2 == pytest.approx(machine.governor.allowed_duty)


def test_throttling_is_told_once_and_has_to_end_clearly(caplog):
    """A temperature that wavers about one point is one change, told with what to do; so is its end."""
    caplog.set_level("INFO", "edge.daemon.power")
    machine = Machine(max_temperature=80.0)
    told = []
    for celsius in (60.0, 74.0, 76.0, 74.0, 76.0, 74.0, 71.0, 74.0):
        machine.work(celsius=celsius)
        told.append(machine.governor.throttled)
    assert [False, False, True, True, True, True, False, False] == told
    assert ["WARNING", "INFO"] == [record.levelname for record in caplog.records]
    assert "76 degrees Celsius, and power.max_temperature is 80" in caplog.records[0].getMessage()


def test_the_temperature_is_not_read_with_every_frame():
    """Within two seconds it is not asked for again; other limits hold from the next frame on."""
    machine = Machine(max_temperature=80.0)
    machine.work(celsius=20.0)
    machine.celsius = 90.0
    machine.governor.worked(0.1)
    assert 1.0 == machine.governor.allowed_duty
    machine.governor.configure(PowerSection(max_temperature=85.0))
    machine.governor.worked(0.1)
    assert 0.05 == pytest.approx(machine.governor.allowed_duty)
