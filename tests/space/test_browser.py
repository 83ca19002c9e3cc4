"""The web demo as visitors see it, in a real browser: good and bad files, two at once, on a phone, and nothing left behind."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from surgvista_hf.datasets_scripts.own_labels.phase_files import read_phase_file

from ..inference.tiny_models import save_classifier
from ..videos import write_numbered_video

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="chromium is not on this machine"),
]
EXPECTED_NOISE = ("queue/data", "net::ERR_ABORTED")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Address of a running demo, and the folder of its uploads."""
    folder = tmp_path_factory.mktemp("site")
    save_classifier(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "tmp").mkdir()
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "uploads"), "TMPDIR": str(folder / "tmp")}
    words = ["space", "--model", f"tiny={folder / 'model'}", "--port", str(port)]
    words += ["--max-megabytes", "6", "--max-minutes", "1", "--device", "cpu"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "surgvista_hf.cli.main", *words], env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=2).close()
            break
        except OSError:
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.5)
    yield address, folder
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


class Visitor:
    """A page of its own session, which remembers what the browser complained about and whom it asked."""

    def __init__(self, browser, address: str, width: int = 1280, height: int = 900) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(90_000)
        self.complaints, self.requested = [], set()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.requested.add(request.url.split("/")[2]))
        self.page.goto(address)
        self.page.wait_for_selector("#predict")

    def bring(self, file: Path) -> None:
        self.page.set_input_files("#video input[type=file]", file)

    def predict(self) -> None:
        self.page.wait_for_selector("#video video", state="attached")
        self.page.click("#predict")

    def result(self) -> str:
        return self.page.wait_for_selector("#timeline svg[role=img]").get_attribute("aria-label")

    def leave(self) -> None:
        self.page.close(run_before_unload=True)
        self.context.close()


def uploads(folder: Path) -> list[Path]:
    return [path for path in (folder / "uploads").rglob("*.mp4") if "rendered_operation" not in path.name]


def test_a_visitor_uploads_sees_takes_along_and_leaves_nothing(site, browser, tmp_path):
    address, folder = site
    visitor = Visitor(browser, address)
    page = visitor.page
    assert "not a medical device" in page.inner_text("[role=note]")
    visitor.bring(write_numbered_video(tmp_path / "operation.mp4", count=120))
    visitor.predict()
    assert "Timeline: " in visitor.result()
    assert "0:12" in page.inner_html("#timeline")
    assert page.locator("#classes").inner_text().count("%") == 4
    page.get_by_role("tab", name="Heat maps").click()
    page.wait_for_selector("#gallery img")
    page.get_by_role("tab", name="Files").click()
    with page.expect_download() as download:
        page.locator("#files a").first.click()
    text = Path(download.value.path()).read_text()
    assert "Prediction of operation.mp4" in text
    assert uploads(folder)
    assert not [each for each in visitor.complaints if not any(noise in each for noise in EXPECTED_NOISE)]
    assert visitor.requested == {address.split("/")[2]}  # nothing is fetched from anywhere else
    visitor.leave()
    for _ in range(60):
        if not uploads(folder) and not list((folder / "tmp").glob("surgvista-space-*")):
            return
        time.sleep(0.5)
    pytest.fail(f"left behind: {uploads(folder)}")


def test_the_example_is_one_click_away(site, browser):
    visitor = Visitor(browser, site[0])
    visitor.page.locator("text=A rendered operation").wait_for()
    visitor.page.locator(".gallery-item, [data-testid=dataset] button, .gallery button").first.click()
    visitor.predict()
    assert "Timeline: " in visitor.result()
    visitor.leave()


def test_a_file_that_is_no_video_is_refused_in_words_and_the_next_one_works(site, browser, tmp_path):
    visitor = Visitor(browser, site[0])
    (tmp_path / "text.mp4").write_text("no video " * 1000)
    visitor.bring(tmp_path / "text.mp4")
    visitor.predict()
    visitor.page.get_by_text("cannot be decoded").first.wait_for()
    assert "Traceback" not in visitor.page.content()
    visitor.leave()
    visitor = Visitor(browser, site[0])
    visitor.bring(write_numbered_video(tmp_path / "good.mp4", count=50))
    visitor.predict()
    assert "Timeline: " in visitor.result()
    visitor.leave()


def test_a_file_that_is_too_large_or_too_long_is_refused_in_words(site, browser, tmp_path):
    visitor = Visitor(browser, site[0])
    (tmp_path / "large.mp4").write_bytes(os.urandom(9_000_000))
    visitor.bring(tmp_path / "large.mp4")
    visitor.page.get_by_text("exceed the maximum").first.wait_for()
    visitor.leave()
    visitor = Visitor(browser, site[0])
    visitor.bring(write_numbered_video(tmp_path / "long.mp4", count=1500, rate=10))
    visitor.predict()
    visitor.page.get_by_text("at most 1 are allowed").first.wait_for()
    visitor.leave()


def test_two_visitors_at_once_see_their_own(site, browser, tmp_path):
    visitors = [Visitor(browser, site[0]) for _ in range(2)]
    for number, visitor in enumerate(visitors):
        visitor.bring(write_numbered_video(tmp_path / f"operation {number}.mp4", count=100 + 100 * number))
    for visitor in visitors:
        visitor.predict()
    ends = []
    for visitor in visitors:
        visitor.result()
        ends.append("0:20" in visitor.page.inner_html("#timeline"))
        visitor.leave()
    assert ends == [False, True]


def test_it_fits_a_phone(site, browser, tmp_path):
    visitor = Visitor(browser, site[0], 390, 844)
    visitor.bring(write_numbered_video(tmp_path / "operation.mp4", count=80))
    visitor.predict()
    visitor.result()
    assert visitor.page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
    visitor.leave()


def test_labels_stand_below_the_prediction_and_a_corrected_segment_is_taken_along(site, browser, tmp_path):
    visitor = Visitor(browser, site[0])
    page = visitor.page
    visitor.bring(write_numbered_video(tmp_path / "monday.mp4", count=100))
    (tmp_path / "monday.csv").write_text("start,end,phase\n2,6,Clipping\n")
    page.set_input_files("#labels input[type=file]", tmp_path / "monday.csv")
    page.wait_for_function("document.querySelector('#labels').innerText.includes('monday')")
    visitor.predict()
    assert "of 4 labeled seconds" in visitor.result()
    assert "labeled Clipping" in page.inner_html("#timeline")
    page.get_by_role("tab", name="Correct").click()
    page.locator("#segments div[role=gridcell]").nth(2).dblclick()  # the class of the first segment
    page.keyboard.press("Control+A")
    page.keyboard.type("Packaging")
    page.keyboard.press("Enter")
    page.click("#save")
    page.wait_for_selector("#corrections svg")
    with page.expect_download() as download:
        page.locator("#corrected a").first.click()
    download.value.save_as(tmp_path / "monday.eaf")
    spans = read_phase_file(tmp_path / "monday.eaf").spans
    assert (spans[0].start, spans[0].label) == (0.0, "Packaging")
    assert spans[-1].stop == 10.0
    assert not [each for each in visitor.complaints if not any(noise in each for noise in EXPECTED_NOISE)]
    visitor.leave()
