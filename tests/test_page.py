"""The page in a real Chromium: what a person sees, in every state of the daemon."""

import json
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from edge import heatmap
from edge.config import HeatmapSection
from edge.messages import state_json
from edge.records import DepthMap, Frame, Reading, Region, Scene, ZoneScene
from edge.web import WebServer

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NONE = "\N{EN DASH}"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
]
NEAR = Region(
    nearness=0.82, box=(0.3, 0.2, 0.6, 0.9), centroid=(0.45, 0.6), area=0.12, zones=("door",), bearing_deg=-12
)
STARTER = {"name": "starter-v2", "note": "starter weights: a small network; small things are blurred"}
ZONES = (
    ZoneScene(name="door", occupied=True, nearness=0.82, coverage=0.41, surface=0.9),
    ZoneScene(name="window", occupied=False, coverage=0.0, surface=0.3),
)


def made_depth(sequence):
    """Return an invented room: a floor that comes nearer downwards, and something round in front of it."""
    y, x = np.mgrid[0:1:192j, 0:1:256j]
    depth = 0.15 + 0.75 * np.clip(y - 0.35, 0, 1) + 0.1 * np.abs(x - 0.5)
    depth[(x - 0.45) ** 2 + ((y - 0.58) * 0.6) ** 2 < 0.02] = 1.1
    frame = Frame(
        sequence=sequence,
        captured_at=time.monotonic(),
        wall_time=datetime.now(UTC),
        pixels=np.zeros((480, 640, 3), np.uint8),
    )
    return DepthMap(frame=frame, inverse_depth=depth.astype(np.float32), inference_seconds=0.11, weights="starter-v2")


class FakeBoard:
    """A board that shows what a test writes on it; begins with a live reading."""

    def __init__(self):
        self.sequence = self.asked = 0
        self.latest_info = {
            "name": "Front door",
            "version": "0.1.0",
            "weights": {"name": "midas_v21_small_256", "note": ""},
            "engine": "torch",
            "threads": 4,
        }
        self.latest_health = {
            "fps": 4.6,
            "inference_ms": {"p50": 112.3, "p95": 120.0},
            "temperature_c": 61.2,
            "throttled": False,
            "mqtt_connected": True,
            "camera": "online",
        }
        self.latest_heatmap = None
        self.latest_state = None
        self.write(regions=(NEAR,), zones=ZONES)

    def write(self, state="tracking", quality=0.93, **scene):
        """Show a new reading of a scene, and its heatmap."""
        self.sequence += 1
        depth = made_depth(self.sequence)
        scene = Scene(depth=depth, state=state, quality=quality, aligned=depth.inverse_depth, surface=0.9, **scene)
        self.latest_state = state_json(Reading(scene=scene, latency_seconds=0.131, dropped=2))
        self.latest_heatmap = self.sequence, heatmap.encode_jpeg(heatmap.render(scene, HeatmapSection(width=768)), 80)

    def state(self):
        self.asked += 1
        return self.latest_state

    def info(self):
        return self.latest_info

    def health(self):
        return self.latest_health

    def heatmap(self):
        return self.latest_heatmap


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser with an empty profile."""
    options = webdriver.ChromeOptions()
    assert CHROMIUM, "these tests need chromium: run scripts/test"
    assert CHROMEDRIVER, "these tests need chromedriver: run scripts/test"
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(CHROMEDRIVER))
    driver.set_page_load_timeout(30)
    yield driver
    driver.quit()


@pytest.fixture
def board():
    """A board with a live reading."""
    return FakeBoard()


@pytest.fixture
def visit(chromium, server):
    """A function that opens the page in the browser and returns the browser."""

    def open_page():
        chromium.get_log("browser"), chromium.get_log("performance")  # reading empties them
        chromium.get(server.url)
        return chromium

    yield open_page
    chromium.get("about:blank")


def text(page, element):
    """Return what a person reads in the element of that id."""
    return page.find_element(By.ID, element).text


def shown(page, element):
    """Return whether a person sees the element of that id."""
    return page.find_element(By.ID, element).is_displayed()


def until(page, condition):
    """Wait until a condition holds; 20 s are allowed."""
    return WebDriverWait(page, 20, 0.05, ignored_exceptions=[Exception]).until(lambda _: condition())


def says(page, element, words):
    """Wait until the element of that id says `words`."""
    until(page, lambda: words in text(page, element))
    return True


def errors(page):
    """Return what the browser complained about since the page was opened."""
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def requests(page):
    """Return the addresses that the page has asked for since it was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def rows(page):
    """Return the zones' table, row by row."""
    return [row.text for row in page.find_elements(By.CSS_SELECTOR, "#zones tr")]


def polled(page, times):
    """Return what the page asks for while it asks for the reading `times` more times."""
    asked = []
    page.get_log("performance")
    until(page, lambda: asked.extend(requests(page)) or sum("/api/state" in url for url in asked) >= times)
    return asked


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
    until(page, lambda: page.execute_script("return document.getElementById('heatmap').naturalWidth") == 768)
    assert not shown(page, "notice")
    assert not shown(page, "progress")
    assert page.title == "Front door · edge-depth"


def test_page_says_what_readings_are(visit):
    """The page says that readings are relative and that nothing is recognised."""
    about = visit().find_element(By.CLASS_NAME, "about").text
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


def test_heatmap_is_fetched_when_it_changes(visit, board):
    """The browser fetches a heatmap once for each new one, however often it asks for the reading."""
    page = visit()
    assert says(page, "nearest", "0.82")
    assert [url for url in polled(page, 2) if "heatmap" in url] == []
    board.write()
    assert [urlsplit(url).query for url in polled(page, 2) if "heatmap" in url] == ["2"]
    assert page.find_element(By.ID, "heatmap").get_property("src").endswith("/heatmap.jpg?2")


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
    board.latest_health["camera"] = camera
    board.latest_state["time"] = (datetime.now(UTC) - timedelta(seconds=12)).isoformat()
    page = visit()
    assert says(page, "state", words)
    assert text(page, "nearest-note").endswith("s old.")
    assert page.find_element(By.TAG_NAME, "body").get_attribute("data-kind") == "old"


def test_stale_reading(visit, board):
    """A reading that nothing follows is not called live, even if the camera seems well."""
    board.latest_state["time"] = (datetime.now(UTC) - timedelta(seconds=40)).isoformat()
    assert says(visit(), "state", "No new reading for a long time.")


def test_starter_weights(visit, board):
    """The page says when the weights are a starter, as soon as the daemon knows them."""
    board.latest_info["weights"] = {}
    page = visit()
    assert says(page, "nearest", "0.82")
    assert not shown(page, "notice")
    board.latest_info["weights"] = STARTER
    assert says(page, "notice", f"The readings come from {STARTER['note']}.")
    assert "starter-v2" in text(page, "daemon")


def test_before_the_first_reading(visit, board):
    """A page that is opened before the daemon has anything waits, without an error, and fills itself."""
    board.latest_state = board.latest_heatmap = None
    board.latest_info, board.latest_health = {"name": "Front door"}, {}
    page = visit()
    assert says(page, "state", "Waiting for the first picture.")
    assert shown(page, "no-heatmap")
    board.write(regions=(NEAR,))
    assert says(page, "nearest", "0.82")
    until(page, lambda: shown(page, "heatmap") and not shown(page, "no-heatmap"))
    assert errors(page) == []


def test_daemon_gone_and_back(chromium, board):
    """A page whose daemon ends says so, and goes on by itself when it is back."""
    server = WebServer("127.0.0.1:0", board)
    server.start()
    address = urlsplit(server.url).netloc
    chromium.get(server.url)
    assert says(chromium, "nearest", "0.82")
    server.stop()
    assert says(chromium, "state", "No answer from the daemon; trying again.")
    server = WebServer(address, board)
    server.start()
    board.write()
    assert says(chromium, "state", "Live")
    chromium.get("about:blank")
    server.stop()


def test_no_complaints_and_no_other_host(visit, server):
    """The browser has nothing to complain about, and the page asks no host but its own."""
    page = visit()
    assert says(page, "nearest", "0.82")
    hosts = {urlsplit(url).netloc for url in requests(page) + polled(page, 2)}
    assert hosts == {urlsplit(server.url).netloc}
    assert errors(page) == []


def test_hidden_page_asks_rarely(visit, board):
    """A page that nobody sees asks rarely; when it is seen again it is up to date at once."""
    page = visit()
    assert says(page, "nearest", "0.82")
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    time.sleep(1)  # a request that was on its way
    before = board.asked
    time.sleep(2)
    assert board.asked - before <= 1  # four, were it seen
    board.write()
    page.close()
    page.switch_to.window(first)
    assert says(page, "nearest", NONE)


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
    assert "near" in page.find_element(By.ID, "heatmap").get_attribute("alt")
    assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    assert says(page, "nearest", "0.82")
    headings = [heading.text.lower() for heading in page.find_elements(By.CSS_SELECTOR, "h1, h2")]
    assert headings == ["front door", "nearest", "zones", "daemon"]
    nameless = "main section:not([aria-labelledby]), img:not([alt]), th:not([scope])"
    assert page.find_elements(By.CSS_SELECTOR, nameless) == []


@pytest.fixture
def screen(chromium):
    """A function that gives the browser a screen of some width and scheme."""

    def become(width, scheme):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    yield become
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_fits_the_screen(visit, screen, board, tmp_path, width, scheme):
    """Nothing sticks out sideways, not even with long names, and the heatmap is large."""
    board.latest_info |= {"name": "Donaudampfschifffahrtsgesellschaftskapitaen at the door", "weights": STARTER}
    board.write(regions=(NEAR,), zones=(*ZONES, ZoneScene(name="the-corner-behind-the-big-old-cupboard")))
    screen(width, scheme)
    page = visit()
    assert says(page, "zones", "cupboard")
    until(page, lambda: shown(page, "heatmap"))
    page.save_screenshot(str(tmp_path / f"{width}-{scheme}.png"))
    root = "document.documentElement"
    scroll, client = page.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
    assert scroll <= client
    assert page.find_element(By.ID, "heatmap").rect["width"] > 0.65 * client


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(visit, screen, scheme):
    """Text stands out from its ground by 4.5 to 1 at least (WCAG 2.2, 1.4.3), light and dark."""
    screen(1280, scheme)
    names = ["ink", "soft", "good", "busy", "bad", "notice-ink", "back", "card", "line", "notice"]
    style = "getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()"
    colours = visit().execute_script(f"return Object.fromEntries(arguments[0].map((name) => [name, {style}]))", names)
    grounds = {"ink": ("back", "card"), "soft": ("back", "card", "line"), "notice-ink": ("notice",)}
    for ink in ("ink", "soft", "good", "busy", "bad", "notice-ink"):
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
