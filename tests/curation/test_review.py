"""The review page: what it shows, that it needs nothing else, and that what is decided on it comes back."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from surgvista_hf.curation.collection.manifest import CurationError
from surgvista_hf.curation.collection.overrides import apply_overrides, read_overrides
from surgvista_hf.curation.review import write_review
from surgvista_hf.modeling.errors_surgvista import InputError


@pytest.fixture
def corpus(curated, tmp_path):
    return shutil.copytree(curated, tmp_path / "corpus")


class Page(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_every_decision_is_shown_with_images_and_text(curated, tmp_path):
    page = Page(write_review(curated, tmp_path / "page.html", only="all").read_text())
    forms = [form["data-video"] for form in page.all("form")]
    assert forms == ["-first_logo", "a-copy", "bordered", "flashes", "talk", "truncated"]
    assert "Dropped by deduplicate: repeats another video -first_logo." in page.text
    assert "Dropped by classify-videos: uninformative." in page.text
    assert "Dropped by trim: no surgical content." in page.text
    assert "Seconds 4 to 19 are kept" in page.text
    images = page.all("img")
    assert len(images) == 5 * 16  # the truncated one has none
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    captions = [image["alt"] for image in images[:16]]
    assert captions[0] == "second 1: cut off"
    assert any(re.fullmatch(r"second \d+: surgical, 2 covered", each) for each in captions)
    assert any(each.endswith("not surgical") for each in captions)


def test_the_page_needs_no_other_file_and_sends_nothing(curated, tmp_path):
    text = write_review(curated, tmp_path / "page.html", only="kept").read_text()
    page = Page(text)
    assert not re.search(r"(?:src|action)=\"(?!data:)|url\(|@import|fetch\(|XMLHttpRequest", text)
    assert {link["rel"] for link in page.all("a")} == {"noreferrer"}
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("label")) >= 7 * len(page.all("form"))
    assert str(curated) not in text


@pytest.mark.slow
def test_a_page_can_be_asked_for_by_kind_and_id(curated, tmp_path):
    def shown(**options: object) -> list[str]:
        page = Page(write_review(curated, tmp_path / "page.html", **options).read_text())
        return [form["data-video"] for form in page.all("form")]

    assert shown(only="dropped") == ["a-copy", "flashes", "talk", "truncated"]
    assert shown(only="kept") == ["-first_logo", "bordered"]
    assert shown(only="overridden") == []
    assert len(shown(limit=2)) == 2
    assert shown(videos=["-first_logo"]) == ["-first_logo"]
    with pytest.raises(InputError, match="holds no video 'nobody'"):
        shown(videos=["nobody"])
    with pytest.raises(InputError, match="choose one of"):
        shown(only="best")
    with pytest.raises(CurationError, match="is no collection"):
        write_review(tmp_path / "nowhere")


ENTRIES = [
    {"video": "-first_logo", "decision": "keep", "start": 3.5, "note": 'a "note" <b>'},
    {"video": "-first_logo", "decision": "non-surgical", "start": 5.0, "end": 6.0, "note": 'a "note" <b>'},
    {"video": "-first_logo", "decision": "mask", "box": [0, 0, 20, 10], "note": 'a "note" <b>'},
    {"video": "-first_logo", "decision": "unmask", "end": 9.0, "note": 'a "note" <b>'},
    {"video": "talk", "decision": "drop"},
]


@pytest.mark.slow
def test_in_a_browser_decisions_come_back_as_they_were_and_changed_ones_changed(corpus, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    browser_path = shutil.which("chromium")
    if browser_path is None or subprocess.run([browser_path, "--version"], capture_output=True).returncode:
        pytest.skip("there is no browser")
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(ENTRIES))
    apply_overrides(corpus, saved)
    page_file = write_review(corpus, only="all")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(accept_downloads=True)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(page_file.as_uri())

        def save(name: str) -> list[dict]:
            with page.expect_download() as download:
                page.get_by_role("button", name="Save overrides").click()
            download.value.save_as(tmp_path / name)
            return json.loads((tmp_path / name).read_text())

        unchanged = save("unchanged.json")
        page.get_by_role("group", name="Decision about bordered").get_by_label("drop", exact=True).check()
        page.get_by_role("group", name="Decision about talk").get_by_label("as decided").check()
        page.get_by_role("group", name="Decision about flashes").get_by_label("further").fill(
            "surgical 1-6\nmask 1 2 3"
        )
        page.get_by_role("button", name="Save overrides").click()
        assert page.locator("#message").inner_text() == "Nothing was saved; decisions that cannot be understood: 1"
        assert "x1 y1 x2 y2" in page.locator("form[data-video=flashes] .wrong").inner_text()
        page.get_by_role("group", name="Decision about flashes").get_by_label("further").fill("surgical 1-6")
        changed = save("changed.json")
        browser.close()
    assert problems == []
    assert sorted(unchanged, key=json.dumps) == sorted(ENTRIES, key=json.dumps)
    assert [each for each in changed if each["video"] != "-first_logo"] == [
        {"video": "bordered", "decision": "drop"},
        {"video": "flashes", "decision": "surgical", "start": 1, "end": 6},
        {"video": "talk", "decision": "none"},
    ]
    apply_overrides(corpus, tmp_path / "changed.json")
    found = read_overrides(corpus / "overrides.json")
    assert found.says("bordered", "drop")
    assert found.about("talk") == []
    assert found.says("-first_logo", "keep")
