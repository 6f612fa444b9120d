"""The heatmap is drawn when somebody gets it, once for all, and not before."""

import dataclasses
import threading
from contextlib import contextmanager

import pytest

from edge.config import HeatmapSection
from edge.daemon.drawing import Drawing
from edge.records import Reading, Scene
from tests.scenes import Camera, room, with_figure


class Count:
    """Times that count what was timed."""

    def __init__(self):
        self.drawn = 0

    @contextmanager
    def timed(self, stage):
        assert stage == "heatmap"
        self.drawn += 1
        yield


CAMERA = Camera()


def reading(depth=None):
    shot = CAMERA.shoot(room() if depth is None else depth)
    scene = Scene(depth=shot, state="tracking", quality=1.0, aligned=shot.inverse_depth)
    return Reading(scene=scene, latency_seconds=0.1, dropped=0)


def again(before):
    """Return a reading of the next frame that rests on the depth of another one."""
    depth = dataclasses.replace(before.scene.depth, frame=CAMERA.shoot(room()).frame)
    return dataclasses.replace(before, scene=dataclasses.replace(before.scene, depth=depth))


def drawing(**keys):
    return Drawing(HeatmapSection(**{"interval": 0.0, **keys}), Count())


def test_readings_alone_draw_nothing():
    """A hundred of them, and nobody who looks."""
    made = drawing()
    for _ in range(100):
        made.offer(reading())
    assert 0 == made._times.drawn


def test_before_the_first_reading_there_is_none():
    """Nor where heatmaps are switched off, nor of what is not to be drawn any more."""
    made, off = drawing(), drawing()
    off.offer(reading())
    assert off.draw()
    off.configure(HeatmapSection(enabled=False))
    made.offer(reading())
    made.offer(None)
    assert [None, None, None, None] == [drawing().newest(), off.newest(), off.draw(), made.draw()]


def test_what_is_to_be_forgotten_is():
    """Neither what was left nor what was drawn is there any more."""
    made = drawing(interval=3600.0)
    made.offer(reading())
    assert made.draw()
    made.forget()
    assert (None, None) == (made.newest(), made.draw())


def test_all_who_ask_get_one_picture():
    """Twenty threads at once: one drawing, the same bytes for everyone."""
    made, got = drawing(), []
    made.offer(reading())
    threads = [threading.Thread(target=lambda: got.append(made.newest())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (1, 1, 20) == (made._times.drawn, len(set(got)), len(got))
    assert got[0][1].startswith(b"\xff\xd8")


def test_a_picture_lasts_for_its_interval():
    """Whoever looks gets the last one until then; what is sent is always the newest."""
    made = drawing(interval=3600.0)
    first, second = reading(), reading(with_figure(room(), 0.5, 1.0))
    made.offer(first)
    assert first.frame.sequence == made.newest()[0]
    made.offer(second)
    assert first.frame.sequence == made.newest()[0]
    assert second.frame.sequence == made.draw()[0] == made.newest()[0]
    assert 2 == made._times.drawn


@pytest.mark.parametrize(("overlay", "drawn"), [(False, 1), (True, 2)])
def test_what_rests_on_the_same_depth_has_the_same_picture(overlay, drawn):
    """Unless the camera's own picture lies under it, which is another one."""
    made, first = drawing(overlay=overlay), reading()
    for each in (first, again(first)):
        made.offer(each)
        picture = made.draw()
    assert (drawn, first.frame.sequence + drawn - 1) == (made._times.drawn, picture[0])


def test_what_can_not_be_drawn_is_left_out(monkeypatch, caplog):
    """It is tried once, told once, and nothing older is shown in its place; what comes later is drawn again."""
    made, first, second = drawing(interval=3600.0), reading(), reading(with_figure(room(), 0.5, 1.0))
    made.offer(first)
    with monkeypatch.context() as broken:
        broken.setattr("edge.publish.heatmap.render", lambda *_: 1 / 0)
        assert [None, None, None] == [made.newest(), made.newest(), made.draw()]
        made.offer(second)
        assert [None, None] == [made.draw(), made.newest()]
    assert 1 == caplog.text.count("ZeroDivisionError: ")
    made.offer(third := reading())
    assert third.frame.sequence == made.draw()[0]


def test_other_colours_are_drawn_at_once():
    """A changed section is not answered with what was drawn for the one before."""
    made = drawing(interval=3600.0)
    made.offer(reading())
    before = made.draw()
    made.configure(HeatmapSection(interval=3600.0, colormap="viridis"))
    assert before != made.newest()
    assert 2 == made._times.drawn
