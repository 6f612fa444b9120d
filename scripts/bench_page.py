#!/usr/bin/env python3
"""Measure the page: its weight, its first useful paint, an upload's answer, and what uploads cost the live readings.

usage: scripts/bench_page.py [--seconds S] [--rounds N] [--fps F] [--threads N] [--json]

The whole daemon plays the bundled clip's frames, as fast as the network takes them unless --fps says otherwise. Load is
made by processes of their own: a real Chromium (left out where selenium or Chromium is missing), one client that
sends the same picture again and again, and twenty that send other pictures at once, each as soon as the one before was
answered, or after the time that a 429 or 503 names.
"""

import argparse
import http.client
import json
import logging
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from edge.commands.demo import Clip
from edge.config import Config
from edge.daemon import Daemon
from edge.state.place import Place
from edge.system.machine import machine_name

UPLOADERS = 20
PHOTO = Path(__file__).parents[1] / "edge" / "data" / "photos" / "desk.jpg"
BOUNDARY = "bench"
# Tells when the page shows a reading and a picture, in ms since it was asked for.
USEFUL = """
const look = () => {
  const picture = document.getElementById("picture");
  const nearest = document.getElementById("state");
  if (picture?.naturalWidth && /Live|Learning/.test(nearest.textContent)) window.useful = performance.now();
  else requestAnimationFrame(look);
};
look();
"""


def main() -> int:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of phases, without and with uploads (%(default)s)")
    parser.add_argument("--fps", type=float, default=60.0, help="of the camera (%(default)s)")
    parser.add_argument("--threads", type=int, help="of the network (as many as processors, 4 at most)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--upload", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.upload:
        print(json.dumps(upload(args.upload, args.seconds)))
        return 0
    logging.disable(logging.CRITICAL)
    result = {"machine": machine_name(), **measure(args)}
    print(json.dumps(result) if args.json else "\n".join(f"{key:<44} {value}" for key, value in result.items()))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run the daemon, and the measurements beside it."""
    with tempfile.TemporaryDirectory() as frames:
        _extract(Path(frames))
        return _measured(Path(frames), args)


def _extract(folder: Path) -> None:
    """Write the clip's frames into a folder, which can be played at any rate."""
    clip = cv2.VideoCapture(str(Clip().path))
    number = 0
    while (read := clip.read())[0]:
        cv2.imwrite(str(folder / f"{number:04}.jpg"), read[1])
        number += 1


def _measured(frames: Path, args: argparse.Namespace) -> dict[str, Any]:
    times: list[float] = []
    config = Config.model_validate(
        {
            "camera": {"source": str(frames), "fps": args.fps},
            "model": {"threads": args.threads},
            "scene": {"learn_seconds": 3.0},
            "mqtt": {"enabled": False},
            "web": {"listen": "127.0.0.1:0"},
        }
    )
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as state:
        daemon = Daemon(
            config, consumers=(lambda _: times.append(time.monotonic()),), place=Place(Path(state), "bench")
        )
        thread = threading.Thread(target=_beside, args=(daemon, times, args, found), daemon=True)
        thread.start()
        daemon.run()
        thread.join()
    return found


def _beside(daemon: Daemon, times: list[float], args: argparse.Namespace, found: dict[str, Any]) -> None:
    try:
        while len(times) < 20:
            time.sleep(0.1)
        assert daemon.web
        found["page_bytes"] = weight(daemon.web.url)
        found |= paint(daemon.web.url)
        found |= cached(daemon.web.url)
        found |= rates(daemon.web.url, times, args)
    finally:
        daemon.stop()


def weight(url: str) -> int:
    """Return the bytes of the page and of all that it names."""
    page = _get(url, "/")[1]
    paths = set(re.findall(rb'(?:href|src)="(/static/[^"]+)"', page))
    return len(page) + sum(len(_get(url, path.decode())[1]) for path in paths)


def paint(url: str) -> dict[str, Any]:
    """Return when a fresh Chromium first shows something, and when it shows a reading and a picture; in ms."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    with suppress(ImportError):
        from selenium import webdriver

        if chromium and driver:
            options = webdriver.ChromeOptions()
            options.binary_location = chromium
            for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"):
                options.add_argument(flag)
            browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
            try:
                return _paint(browser, url)
            finally:
                browser.quit()
    return {"first_paint_ms": "needs selenium and chromium"}


def _paint(browser: Any, url: str) -> dict[str, Any]:
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": USEFUL})
    firsts, usefuls = [], []
    for _ in range(5):
        browser.get("about:blank")
        browser.get(url)
        while (useful := browser.execute_script("return window.useful")) is None:
            time.sleep(0.05)
        usefuls.append(useful)
        firsts.append(
            browser.execute_script("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
    browser.get("about:blank")
    return {
        "first_paint_ms": round(statistics.median(firsts)),
        "first_useful_paint_ms": round(statistics.median(usefuls)),
        "first_useful_paint_worst_ms": round(max(usefuls)),
    }


def cached(url: str) -> dict[str, Any]:
    """Return how long the answer to a picture that is known takes, in ms."""
    body = _form(PHOTO.read_bytes())
    while (status := _post(url, body)[0]) != 200:
        if status not in (429, 503):
            raise SystemExit(f"/predict answered {status}")
        time.sleep(1)
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    taken = []
    for _ in range(100):
        begun = time.perf_counter()
        connection.request("POST", "/predict", body, _HEADERS)
        connection.getresponse().read()
        taken.append((time.perf_counter() - begun) * 1000)
    p50, p95 = np.percentile(taken, (50, 95)).tolist()
    return {"predict_cached_p50_ms": round(p50, 2), "predict_cached_p95_ms": round(p95, 2)}


def rates(url: str, times: list[float], args: argparse.Namespace) -> dict[str, Any]:
    """Return the readings a second without and with uploads, in turns, and what became of the uploads."""
    alone, beside = [], []
    answers: Counter[str] = Counter()
    for _ in range(args.rounds):
        alone.append(_rate(times, args.seconds))
        command = [sys.executable, __file__, "--upload", url, "--seconds", str(args.seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this very script
        assert process.stdout
        process.stdout.readline()  # its pictures are made
        beside.append(_rate(times, args.seconds))
        answers.update(json.loads(process.communicate()[0]))
    alone.append(_rate(times, args.seconds))
    without, with_uploads = statistics.mean(alone), statistics.mean(beside)
    return {
        "readings_a_second_alone": [round(rate, 2) for rate in alone],
        "readings_a_second_with_20_uploaders": [round(rate, 2) for rate in beside],
        "live_rate_lowered_percent": round(100 * (1 - with_uploads / without), 1),
        "answers": dict(answers),
    }


def _rate(times: list[float], seconds: float) -> float:
    before = len(times)
    begun = time.monotonic()
    time.sleep(seconds)
    return (len(times) - before) / (time.monotonic() - begun)


def upload(url: str, seconds: float) -> dict[str, int]:
    """Send pictures from twenty threads for some seconds; return how many got which status."""
    answers: Counter[str] = Counter()
    pictures = [list(_pictures(seed)) for seed in range(UPLOADERS)]
    print("ready", flush=True)
    ends_at = time.monotonic() + seconds

    def send(own: list[bytes]) -> None:
        number = 0
        while time.monotonic() < ends_at:
            # a comment that is never the same makes every picture a new one
            picture = own[number % len(own)]
            number += 1
            comment = random.randbytes(8)  # noqa: S311 - no secret
            status, _, wait = _post(url, _form(picture[:2] + b"\xff\xfe\x00\x0a" + comment + picture[2:]))
            answers[str(status)] += 1
            if wait:
                time.sleep(min(wait, max(0.0, ends_at - time.monotonic())))

    threads = [threading.Thread(target=send, args=(own,)) for own in pictures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(answers)


def _pictures(seed: int) -> Iterator[bytes]:
    photo = cv2.imread(str(PHOTO))
    for number, side in enumerate((1280, 1920)):
        picture = cv2.resize(photo, (side, side * 3 // 4))
        picture = cv2.convertScaleAbs(picture, alpha=1.0, beta=seed + number)
        yield cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


_HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def _form(picture: bytes) -> bytes:
    head = 'Content-Disposition: form-data; name="image"; filename="x.jpg"\r\nContent-Type: image/jpeg'
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


def _post(url: str, body: bytes) -> tuple[int, bytes, float]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.request("POST", "/predict", body, _HEADERS)
        answer = connection.getresponse()
        return answer.status, answer.read(), float(answer.headers.get("Retry-After", 0))
    finally:
        connection.close()


def _get(url: str, path: str) -> tuple[int, bytes]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
