"""The report: one file that shows everything, asks for nothing, and believes no name."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from schemas.outputs import MetricSnapshot, WindowMetrics
from service.core.settings import CoreSettings
from service.replay.backtest import Backtest
from service.replay.digest import Digest
from service.replay.report.page import page
from service.replay.report.svg import ticks, time_ticks
from service.replay.score import score
from tests.replay.test_score import STEP_MS, alert, drifts, ruler, trigger

HOSTILE = '<script>alert("x")</script>'


def snapshot(event: int, version: str = "1") -> MetricSnapshot:
    values = {"accuracy": 0.9 if event < 1000 else 0.6, "auc": None if event < 200 else 0.8, "estimated_accuracy": 0.88}
    return MetricSnapshot(
        snapshot_id="s",
        model_id="m",
        model_version=version,
        event_time_ms=event * STEP_MS,
        predictions_total=event,
        outcomes_total=event,
        windows=(WindowMetrics(window="last_1000", count=10, start_ms=0, end_ms=1, values=values),),
        drift={HOSTILE: event / 1500, "price": 0.3, "(score)": None},
    )


def backtest_of(*, hostile: bool = True) -> Backtest:
    wrong = (np.arange(3000) % 10 < np.where(np.arange(3000) < 1000, 1, 4)).astype(float)
    digest, timelines = Digest(), {"m": ruler(3000, wrong)}
    digest.take([snapshot(event) for event in range(0, 3000, 10)])
    digest.take([snapshot(event, "2") for event in range(1500, 3000, 10)])
    firing = alert(1040)
    digest.take([firing, alert(1040, number=1040, state="resolved"), alert(1500, "data_drift")])
    digest.take([trigger(1300, window_start_ms=1_000_000, loss_before=0.1, loss_during=0.4)])
    if hostile:
        from msgspec.structs import replace

        digest.take([replace(alert(1700, "label_drift"), summary=HOSTILE, model_version=HOSTILE)])
    return Backtest(score(digest, timelines, TRUTH, CoreSettings()), digest, timelines, 6000)


TRUTH = drifts(1000, name=f"the market {HOSTILE}")
CONFIG = {"runtime": {"name": HOSTILE}}


@pytest.fixture(scope="module")
def html() -> str:
    return page(backtest_of(), TRUTH, CONFIG, ["the whole file"])


class Reader(HTMLParser):
    """Collects tags, and what would make a browser ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "path", "line", "polygon"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        risky = [name for name, _ in attrs if name in ("src", "href", "style") or name.startswith("on")]
        self.references += [(tag, name) for name in risky]

    def handle_endtag(self, tag: str) -> None:
        if tag != "polygon":
            assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing(html: str) -> None:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert reader.references == []
    assert not re.search(r"https?://|@import|url\(", html)
    assert reader.tags.count("svg") == 6  # accuracy, auc, loss, lanes, and a heat map a version


def test_its_policy_allows_its_own_style_and_script_and_nothing_else(html: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]


def test_no_name_becomes_markup(html: str) -> None:
    assert HOSTILE not in html
    assert html.count("<script") == 1
    assert html.count("&lt;script&gt;") >= 5


def test_the_same_backtest_gives_the_same_page(html: str) -> None:
    assert page(backtest_of(), TRUTH, CONFIG, ["the whole file"]) == html


def test_drifts_incidents_triggers_and_estimates_are_drawn(html: str) -> None:
    assert html.count('class="truth"') >= 5
    assert html.count('class="incident warning') == 3
    assert html.count('class="trigger"') == 1
    assert "1 estimated" in html
    assert "accuracy, last_1000" in html
    assert "Requests to train" in html


def test_a_model_without_anything_is_still_a_page() -> None:
    digest, timelines = Digest(), {"m": ruler(1)}
    empty = Backtest(score(digest, timelines, None, CoreSettings()), digest, timelines, 1)
    reader = Reader()
    reader.feed(page(empty, None, {}, []))
    assert reader.open == []


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] or ticks(0.0, 1.0) == [0.0, 0.5, 1.0]
    for low, high in ((0.613, 0.947), (-3.0, 12_345.0), (1e-6, 2e-6), (5.0, 5.0)):
        found = ticks(low, high)
        assert found
        assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    for span in (900, 60_000, 86_400_000, 10**11, 10**13):
        found = time_ticks(1_790_000_000_123, 1_790_000_000_123 + span)
        assert len(found) <= 9


# In a real browser ----------------------------------------------------------------------------------------------------


def browser() -> str:
    """Debian's Chromium; installed where this runs as root, else the one command that supplies it."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=True, capture_output=True)
        found = shutil.which("chromium")
    assert found, "the report is looked at in a browser: apt-get install chromium"
    return found


def look(file: Path, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={directory / 'profile'}",
        "--window-size=1200,1600",
        "--enable-logging=stderr",
        # Whatever the page asks for beside itself fails, and says so in the console.
        "--host-resolver-rules=MAP * ~NOTFOUND",
        *options,
        file.as_uri(),
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_shows_it_without_complaint(html: str, tmp_path: Path, dark: bool) -> None:
    file, shot = tmp_path / "report.html", tmp_path / "report.png"
    file.write_text(html, encoding="utf-8")
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    seen = look(file, tmp_path, f"--screenshot={shot}", *theme)
    assert "CONSOLE" not in seen.stderr
    dom = look(file, tmp_path, "--dump-dom").stdout
    assert 'data-ready="yes"' in dom
    pixels = read_png(shot)
    assert pixels.shape == (1600, 1200, 3)
    background = pixels[5, 5].astype(int)
    assert (background.sum() < 150) == dark
    painted = (np.abs(pixels.astype(int) - background).sum(axis=2) > 60).mean()
    assert 0.02 < painted < 0.6
    colours = {tuple(pixel) for pixel in pixels[::7, ::7].reshape(-1, 3).tolist()}
    assert len(colours) > 12


def read_png(path: Path) -> np.ndarray:
    """Read 8-bit RGB or RGBA (PNG specification, sections 9 and 10), which is what a browser writes."""
    import struct
    import zlib

    data = path.read_bytes()
    at, packed, header = 8, b"", b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        header, packed = (body if kind == b"IHDR" else header), (packed + body if kind == b"IDAT" else packed)
        at += 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    assert (depth, colour) in ((8, 2), (8, 6))
    channels = 3 if colour == 2 else 4
    raw = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    image = np.zeros((height + 1, (width + 1) * channels), np.int64)
    for row in range(height):
        image[row + 1, channels:] = unfilter(int(raw[row, 0]), raw[row, 1:].astype(np.int64), image[row], channels)
    return image[1:, channels:].reshape(height, width, channels)[..., :3].astype(np.uint8)


def unfilter(kind: int, line: np.ndarray, above: np.ndarray, channels: int) -> np.ndarray:
    up = above[channels:]
    if kind == 0:
        return line
    if kind == 2:
        return (line + up) % 256
    if kind == 1:
        return np.cumsum(line.reshape(-1, channels), axis=0).reshape(-1) % 256
    made = np.zeros(len(line) + channels, np.int64)
    for place in range(len(line)):
        left, over, corner = made[place], above[channels + place], above[place]
        if kind == 3:
            guess = (left + over) // 2
        else:
            first = left + over - corner
            near = [abs(first - left), abs(first - over), abs(first - corner)]
            guess = (left, over, corner)[near.index(min(near))]
        made[channels + place] = (line[place] + guess) % 256
    return made[channels:]


def test_picture_and_table_show_the_same_severity_the_worst_that_an_incident_was() -> None:
    from msgspec.structs import replace

    mild = replace(alert(1200, "data_drift"), severity="warning", harmless_so_far=True)
    worse = replace(mild, severity="critical", alert_id="later", event_time_ms=mild.event_time_ms + 5000)
    for alerts in ([mild], [mild, worse]):
        digest, timelines = Digest(), {"m": ruler(3000, np.zeros(3000))}
        digest.take(list(alerts))
        text = page(Backtest(score(digest, timelines, None, CoreSettings()), digest, timelines, 6000), None, {}, [])
        (drawn,) = re.findall(r'class="incident (\w+)', text)
        (listed,) = re.findall(r"<td>data drift</td><td>(\w+)</td>", text)
        assert drawn == listed == alerts[-1].severity
