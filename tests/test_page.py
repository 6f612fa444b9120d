"""The page in a real Chromium: what a person sees, in every state of the daemon."""

from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from edge.records import TriggerState, ZoneScene
from tests.browser import all_of, errors, find, keep, requests, says, serious, shown, text, until
from tests.page_rig import DOOR, INFO, NEAR, STARTER, WINDOW, ZONES, MadeBoard, Works, serving

NONE = "\N{EN DASH}"


@pytest.fixture
def works(tmp_path):
    """What is set up."""
    return Works(tmp_path)


@pytest.fixture
def server(board, works):
    """The page of the test's own board."""
    with serving(board, counter=works) as running:
        yield running


def rows(page):
    """Return the zones' table, row by row."""
    return [row.text for row in page.find_elements(By.CSS_SELECTOR, "#zones tr")]


def width_of_picture(page):
    return page.execute_script("return document.getElementById('picture').naturalWidth")


def test_reading_is_shown(visit):
    """The page shows the nearest reading, the zones, how the daemon fares, and the heatmap."""
    page = visit()
    assert says(page, "nearest", "0.82")
    assert text(page, "state").endswith("Live")
    assert "In door. 12° to the left." in text(page, "nearest-note")
    assert rows(page) == ["Zone Occupied Nearness Coverage", "door yes 0.82 41 %", f"window no {NONE} 0 %"]
    daemon = text(page, "daemon")
    for words in (
        "4.6 readings/s",
        "131 ms",
        "112 ms",
        "connected",
        "61 °C",
        "midas_v21_small_256",
        "torch, threads: 4",
        "0.1.0",
    ):
        assert words in daemon
    until(page, lambda: width_of_picture(page) == 640 and shown(page, "picture"))
    assert not shown(page, "notice")
    assert not shown(page, "progress")
    assert page.title == "Front door · edge-depth"


def test_page_says_what_readings_are(visit):
    """The page says that readings are relative and that nothing is recognised."""
    about = visit().find_element(By.TAG_NAME, "footer").text
    assert "relative until the camera is calibrated" in about
    assert "no detector runs" in about


def test_new_reading_is_shown(visit, board):
    """A new reading takes the old one's place without a reload."""
    page = visit()
    assert says(page, "nearest", "0.82")
    board.write(regions=(), zones=ZONES[1:])
    assert says(page, "nearest", NONE)
    assert text(page, "nearest-note") == "Nothing is nearer than the background."
    assert rows(page)[1:] == [f"window no {NONE} 0 %"]


def test_metres_are_shown(visit, board):
    """A calibrated reading has metres with their uncertainty."""
    board.write(regions=(replace(NEAR, distance_m=1.234, uncertainty_m=0.05, speed_mps=0.82),))
    browser = visit()
    assert says(browser, "nearest", "1.23 m")
    assert says(browser, "nearest-note", "± 0.05 m. Coming nearer at 0.8 m/s.")


def test_zones_nearest_and_triggers_are_marked(visit, board):
    """Over the picture lie the zones, a box around the nearest with its reading; what is on lights up."""
    on = TriggerState(name="visitor", on=True, level=0.82)
    board.write(regions=(NEAR,), zones=ZONES, triggers=(on,))
    page = visit()
    until(page, lambda: len(all_of(page, "#marks .zone")) == 2)
    assert ["door", "window", "0.82"] == [name.text for name in all_of(page, "#labels span")]
    assert 1 == len(all_of(page, "#marks .zone.on")) == len(all_of(page, "#marks .nearest"))
    assert "visitor\nON" == text(page, "triggers")
    assert all_of(page, "#view.alarm")
    board.write(zones=ZONES[1:], triggers=(replace(on, on=False, reason="it is dark"),))
    assert says(page, "triggers", "off, frozen: it is dark")
    assert not all_of(page, "#view.alarm, #marks .nearest")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
@pytest.mark.parametrize("part", ["live", "setup"])
def test_labels_stay_in_the_picture(visit, screen, board, works, part, width, height):
    """At the right and the lower edge they move back by what would be cut off; a name that is too long ends in dots."""
    screen(width, "light", height)
    gate = ((0.75, 0.3), (0.98, 0.3), (0.98, 0.8), (0.75, 0.8))
    corner = ((0.97, 0.96), (1, 0.96), (1, 1), (0.97, 1))
    zones = {"door": DOOR, "garden-gate-by-the-street": gate, "letter-box": corner, f"longest-{150 * 'w'}": WINDOW}
    works.overlay.set_all({"zones": [{"name": name, "polygon": zones[name]} for name in zones]})
    board.write(regions=(replace(NEAR, box=(0.98, 0.97, 1.0, 1.0)),))
    page = visit(part)
    until(page, lambda: len(sides_of_labels(page)) == 5 and shown(page, "picture"))
    keep(page, f"labels-{part}-{width}")
    sides = sides_of_labels(page)
    assert {*zones, "0.82"} == set(sides)
    for name, (left, top, right, bottom) in sides.items():
        assert min(left, top, right, bottom) > -1, name
    picture = find(page, "view").rect
    assert sides["door"][:2] == pytest.approx([0.2 * picture["width"], 0.2 * picture["height"]], abs=2)


def sides_of_labels(page):
    """Return how far each label is from the picture's sides, left, top, right and bottom, in px."""
    return page.execute_script(
        "const view = document.getElementById('view').getBoundingClientRect();"
        "const labels = [...document.querySelectorAll('#labels > span, #canvas:not([hidden]) .name')];"
        "return Object.fromEntries(labels.map((each) => [each.textContent, each.getBoundingClientRect()])"
        ".map(([name, box]) => [name, [box.left - view.left, box.top - view.top,"
        " view.right - box.right, view.bottom - box.bottom]]))"
    )


def test_a_heatmap_that_is_switched_off_is_told(visit, board):
    """In words instead of a picture, that of before included; nobody waits for one until it is switched on again."""
    page = visit()
    until(page, lambda: shown(page, "picture"))
    board.put(info=INFO | {"heatmap": False, "config_hash": "2"})
    assert says(page, "no-picture", "The heatmap is switched off: heatmap.enabled is false.")
    assert not shown(page, "picture")
    until(page, lambda: board.write() or board.wanted() == ())
    keep(page, "live-off")
    page.refresh()
    assert says(page, "no-picture", "switched off")
    assert says(page, "state", "Live")
    board.put(info=INFO | {"heatmap": True, "config_hash": "3"})
    until(page, lambda: shown(page, "picture"))


def test_history_is_drawn(visit, board):
    """A small chart shows how near the nearest was, in words for those who don't see it."""
    page = visit()
    chart = find(page, "chart")
    until(page, lambda: "nearest 0.82, last 0.82" in chart.get_attribute("aria-label"))
    board.write(regions=(replace(NEAR, nearness=0.9, distance_m=2.5),))
    board._history[-1] = (board._history[-1][0] + 2, 0.9, 2.5)
    page.refresh()
    until(page, lambda: "nearest 2.50 m" in find(page, "chart").get_attribute("aria-label"))


def test_the_cameras_picture_only_where_it_may_be_seen(visit, board):
    """There is nothing to choose without publish.picture; with it there is, and the picture is another one."""
    page = visit()
    assert says(page, "nearest", "0.82")
    assert not all_of(page, "#views")
    board.allow_pictures(True)
    page.refresh()
    until(page, lambda: ("depth",) == board.wanted())
    for view in ("picture", "blend"):
        all_of(page, f"#views [value={view}]")[0].click()
        until(page, lambda wanted=view: (wanted,) == board.wanted())
        until(page, lambda: width_of_picture(page) == 640)


def test_learning(visit, board):
    """While the background is learned, the page says so and how far it is."""
    board.write(state="learning", progress=0.437)
    page = visit()
    assert says(page, "state", "Learning the background, 40 %")
    assert shown(page, "progress")
    assert page.find_element(By.ID, "progress").get_property("value") == pytest.approx(0.437)
    assert text(page, "nearest") == NONE


def test_lost(visit, board):
    """A scene that is lost is told with its reason."""
    board.write(state="lost", quality=0.1, reason="the camera was moved")
    page = visit()
    assert says(page, "state", "Lost: the camera was moved.")
    assert page.find_element(By.TAG_NAME, "body").get_attribute("data-kind") == "bad"


def test_moving(visit, board):
    """With a moving camera the page names the nearest zone and how far it stands out."""
    zones = (ZoneScene(name="left", prominence=0.2), ZoneScene(name="middle", prominence=1.83))
    board.write(state="moving", zones=zones)
    page = visit()
    assert says(page, "nearest", "middle")
    assert text(page, "nearest-title").lower() == "nearest zone"
    assert text(page, "nearest-note").startswith("Prominence 1.83")
    assert rows(page) == ["Zone Prominence", "left 0.20", "middle 1.83"]


@pytest.mark.parametrize(
    ("camera", "words"),
    [("reconnecting", "delivers no pictures"), ("offline", "offline"), ("disabled", "switched off")],
)
def test_camera_trouble(visit, board, camera, words):
    """A camera that does not deliver is told, with the age of the reading that is left."""
    board.values["camera"] = camera
    board.age(12)
    page = visit()
    assert says(page, "state", words)
    assert text(page, "nearest-note").endswith("s old.")
    assert page.find_element(By.TAG_NAME, "body").get_attribute("data-kind") == "old"


def test_stale_reading(visit, board):
    """A reading that nothing follows is not called live, even if the camera seems well."""
    board.age(40)
    assert says(visit(), "state", "No new reading for a long time.")


def test_dark(visit, board):
    """A picture in which nothing can be seen is told, while learning too."""
    board.write(state="learning", reason="nothing can be seen: is it dark?")
    assert says(visit(), "state", "Learning: nothing can be seen: is it dark?.")


def test_broker_gone(visit, board):
    """That the broker is gone is told with the reason, while readings go on."""
    page = visit()
    assert says(page, "nearest", "0.82")
    assert not shown(page, "broker")
    board.values |= {"mqtt_connected": False, "mqtt_problem": "connection refused"}
    assert says(page, "broker", "The broker is gone: connection refused. Readings go on here.")
    assert says(page, "daemon", "not connected")
    assert text(page, "state").endswith("Live")


def test_starter_weights(visit, board):
    """The page says when the weights are a starter, as soon as the daemon knows them."""
    board.put(info=INFO | {"weights": {}})
    page = visit()
    assert says(page, "nearest", "0.82")
    assert not shown(page, "notice")
    board.put(info=INFO | {"weights": STARTER})
    board.write()
    assert says(page, "notice", f"The readings come from {STARTER['note']}.")
    assert "starter-v2" in text(page, "daemon")


def test_before_the_first_reading(visit, board):
    """A page that is opened before the daemon has anything waits, without an error, and fills itself."""
    board._state = board._scene = None
    board.on_watch = lambda: None
    board.values = {}
    page = visit()
    assert says(page, "state", "Waiting for the first picture.")
    assert shown(page, "no-picture")
    board.write(regions=(NEAR,))
    assert says(page, "nearest", "0.82")
    until(page, lambda: shown(page, "picture") and not shown(page, "no-picture"))
    assert errors(page) == []


def test_daemon_gone_and_back(chromium, board, works):
    """A page whose daemon ends says so, and goes on by itself when it is back, pictures included."""
    with serving(board, counter=works) as server:
        address = urlsplit(server.url).netloc
        chromium.get(server.url)
        assert says(chromium, "nearest", "0.82")
    assert says(chromium, "state", "No answer from the daemon; trying again.")
    again = MadeBoard()
    with serving(again, counter=works, listen=address):
        assert says(chromium, "state", "Live")
        until(chromium, lambda: again.wanted() == ("depth",))
        chromium.get("about:blank")


def test_no_complaints_and_no_other_host(visit, server):
    """The browser has nothing to complain about, and the page asks no host but its own."""
    page = visit()
    assert says(page, "nearest", "0.82")
    until(page, lambda: width_of_picture(page) == 640)
    hosts = {urlsplit(url).netloc for url in requests(page)}
    assert hosts == {urlsplit(server.url).netloc}
    assert errors(page) == []


def test_hidden_page_asks_nothing(visit, board):
    """A page that nobody sees holds no stream; when it is seen again it is up to date at once."""
    page = visit()
    assert says(page, "nearest", "0.82")
    until(page, lambda: board.wanted() == ("depth",))
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    board.write()
    until(page, lambda: board.write() or board.wanted() == ())
    page.close()
    page.switch_to.window(first)
    assert says(page, "nearest", NONE)
    until(page, lambda: board.wanted() == ("depth",))


def test_policy_holds(visit):
    """Chromium keeps the page from loading anything from elsewhere, and from running what is written into it."""
    page = visit()
    page.execute_script(
        "const image = new Image(); image.src = 'http://192.0.2.1/x.png'; document.body.append(image);"
        "const script = document.createElement('script'); script.textContent = 'window.broken = true';"
        "document.body.append(script);"
    )
    refused = []
    until(page, lambda: refused.extend(errors(page)) or all(rule in str(refused) for rule in ("img-src", "script-src")))
    assert page.execute_script("return window.broken") is None


def test_accessible(visit):
    """A screen reader is told of changes of state, knows what the picture is, and finds headings and landmarks."""
    page = visit()
    state = page.find_element(By.ID, "state")
    assert (state.get_attribute("role"), state.get_attribute("aria-live")) == ("status", "polite")
    assert "near" in find(page, "picture").get_attribute("alt")
    assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    assert says(page, "nearest", "0.82")
    headings = [heading.text.lower() for heading in all_of(page, "h1, h2") if heading.is_displayed()]
    assert headings == ["front door", "nearest", "zones", "health"]
    nameless = "main section:not([aria-labelledby]), img:not([alt]), th:not([scope])"
    assert page.find_elements(By.CSS_SELECTOR, nameless) == []
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert "To the content" == page.switch_to.active_element.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_fits_the_screen(visit, screen, board, width, scheme):
    """Nothing sticks out sideways, not even with long names; the picture is large; nobody is shut out."""
    name = "Donaudampfschifffahrtsgesellschaftskapitaen at the door"
    board.put(info=INFO | {"name": name, "weights": STARTER})
    board.write(regions=(NEAR,), zones=(*ZONES, ZoneScene(name="the-corner-behind-the-big-old-cupboard")))
    screen(width, scheme)
    page = visit()
    assert says(page, "zones", "cupboard")
    until(page, lambda: shown(page, "picture"))
    keep(page, f"live-{width}-{scheme}")
    root = "document.documentElement"
    scroll, client = page.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
    assert scroll <= client
    assert find(page, "picture").rect["width"] > 0.6 * client
    assert [] == serious(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(visit, screen, scheme):
    """Text stands out from its ground by 4.5 to 1 at least (WCAG 2.2, 1.4.3), light and dark."""
    screen(1280, scheme)
    names = [
        "ink",
        "soft",
        "good",
        "busy",
        "bad",
        "notice-ink",
        "back",
        "card",
        "line",
        "notice",
        "accent",
        "accent-ink",
    ]
    style = "getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()"
    colours = visit().execute_script(f"return Object.fromEntries(arguments[0].map((name) => [name, {style}]))", names)
    grounds = {"ink": ("back", "card"), "soft": ("back", "card", "line"), "notice-ink": ("notice",)}
    grounds |= {"accent-ink": ("accent",), "bad": ("back", "card")}
    for ink in ("ink", "soft", "good", "busy", "bad", "notice-ink", "accent-ink"):
        for ground in grounds.get(ink, ("back",)):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(first, second):
    """Return the contrast ratio of two colours `#rrggbb` (WCAG 2.2)."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    """Return the relative luminance, 0..1, of a colour `#rrggbb` (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))
