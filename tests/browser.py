"""A real Chromium, and what the page's tests do with it."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = Path(sys.prefix) / "axe-core" / "axe.min.js"
# Screenshots are kept here, to be looked at.
ARTEFACTS = Path(os.environ.get("EDGE_ARTEFACTS", Path(__file__).parents[1] / "artefacts"))
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


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A browser with an empty profile."""
    options = webdriver.ChromeOptions()
    assert CHROMIUM, "these tests need chromium: run scripts/test"
    assert CHROMEDRIVER, "these tests need chromedriver: run scripts/test"
    options.binary_location = CHROMIUM
    downloads = tmp_path_factory.mktemp("downloads")
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(CHROMEDRIVER))
    driver.set_page_load_timeout(60)
    driver.downloads = downloads
    yield driver
    driver.quit()


@pytest.fixture
def visit(chromium, server):
    """A function that opens a part of the page in the browser and returns the browser."""

    def open_page(part="live"):
        chromium.get_log("browser"), chromium.get_log("performance")  # reading empties them
        chromium.get(f"{server.url}#{part}")
        return chromium

    yield open_page
    chromium.get("about:blank")


@pytest.fixture
def screen(chromium):
    """A function that gives the browser a screen of some width and scheme."""

    def become(width, scheme, height=900):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    yield become
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def keep(page, name):
    """Keep a screenshot to be looked at."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.save_screenshot(str(ARTEFACTS / f"{name}.png"))


def find(page, element):
    """Return the element of that id."""
    return page.find_element(By.ID, element)


def all_of(page, selector):
    """Return the elements that a CSS selector finds."""
    return page.find_elements(By.CSS_SELECTOR, selector)


def text(page, element):
    """Return what a person reads in the element of that id."""
    return find(page, element).text


def shown(page, element):
    """Return whether a person sees the element of that id."""
    return find(page, element).is_displayed()


def until(page, condition):
    """Wait until a condition holds, and return what it says; 40 s are allowed."""
    return WebDriverWait(page, 40, 0.05, ignored_exceptions=[Exception]).until(lambda _: condition())


def says(page, element, words):
    """Wait until the element of that id says `words`."""
    until(page, lambda: words in text(page, element))
    return True


def errors(page):
    """Return what the browser complained about since the page was opened."""
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def requests(page):
    """Return the addresses that the page has asked for since they were last asked for here."""
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def serious(page):
    """Return what axe-core finds that keeps people from using the page as it is now."""
    assert AXE.is_file(), "these tests need axe-core: run scripts/test"
    page.execute_cdp_cmd("Page.enable", {})
    page.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
    found = page.execute_async_script("axe.run().then((found) => arguments[0](found.violations))")
    return [
        (each["id"], each["impact"], [node["target"] for node in each["nodes"]][:5])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
