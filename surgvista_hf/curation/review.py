"""A page on which a human reviews the decisions of the stages and overrides them: contact sheets in one file.

The page needs no other file and sends nothing anywhere. Its button saves a file of overrides (`overrides.py`), which
`surgvista curate review --apply` takes into the collection. Titles and names are not on it, but the images may show people:
treat the page like the videos.
"""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

from ..modeling.errors_surgvista import VideoReadError
from ..modeling.subprocess_decoding import SubprocessVideo
from ..util.errors import InputError
from ..util.files import atomic_file
from ..util.messages import first_line
from .collection.manifest import LIMITS, Collection, Video
from .collection.overrides import DECISIONS, Override
from .collection.results import Result, State, Step
from .stages.video_work import as_flags

Selection = Literal["doubtful", "kept", "dropped", "overridden", "all"]
_IMAGES, _WIDTH = 16, 200  # number of images of a contact sheet, and their width in pixels
_COLORS = {"surgical": "#1a7f37", "not surgical": "#b35900", "cut off": "#6e6e78", "not looked at": "#6e6e78"}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1f; background: #fff; max-width: 80rem; margin: 2rem auto }
body { padding: 0 1rem } h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin: 0 0 .3rem; overflow-wrap: anywhere }
.notice { background: #fff4ce; border-left: .4rem solid #b58900; padding: .6rem 1rem }
article { border-top: 1px solid #c8c8d0; padding: 1.2rem 0 }
ul.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .5rem; padding: 0 }
ul.sheet { list-style: none } ul.sheet img { width: 100%; display: block; border-bottom: .35rem solid }
ul.sheet small { display: block; line-height: 1.2 } fieldset { border: 1px solid #c8c8d0; border-radius: .4rem }
label { margin-right: 1.2rem } input[type=number] { width: 6rem } textarea, input[type=text] { width: 100%; font: inherit }
textarea, input[type=text], input[type=number] { box-sizing: border-box; border: 1px solid #77777f; padding: .2rem .4rem }
button { font: inherit; padding: .5rem 1.2rem } .bar { position: sticky; top: 0; background: #fff; padding: .6rem 0 }
.wrong { color: #a40000; font-weight: 600 } :focus-visible { outline: 3px solid #0b57d0; outline-offset: 2px }
"""
# Each form becomes entries; if one cannot be parsed, a message appears beside the form and nothing is saved.
_SCRIPT = r"""
const span = text => {
  const match = /^(\d+(?:\.\d+)?)?\s*-\s*(\d+(?:\.\d+)?)?$/.exec(text.trim());
  if (!match || (!match[1] && !match[2])) throw Error("expected seconds such as 61-75, not " + text);
  return {...(match[1] && {start: Number(match[1])}), ...(match[2] && {end: Number(match[2])})};
};
const line = text => {
  const [decision, ...values] = text.trim().split(/\s+/);
  if (!["surgical", "non-surgical", "mask", "unmask"].includes(decision)) throw Error("unknown decision: " + decision);
  const entry = {decision};
  if (decision === "mask") {
    entry.box = values.splice(0, 4).map(Number);
    if (entry.box.length < 4 || entry.box.some(value => !Number.isInteger(value))) throw Error("mask needs x1 y1 x2 y2");
  }
  return {...entry, ...(values.length && span(values.join("")))};
};
const entries = form => {
  const chosen = form.elements.decision.value, found = [];
  const [start, end] = ["start", "end"].map(name => form.elements[name].value);
  if (chosen === "keep") found.push({decision: "keep", ...(start && {start: Number(start)}), ...(end && {end: Number(end)})});
  if (chosen === "drop") found.push({decision: "drop"});
  for (const text of form.elements.more.value.split("\n")) if (text.trim()) found.push(line(text));
  const note = form.elements.note.value.trim();
  if (!found.length && form.dataset.decided) found.push({decision: "none"});
  return found.map(entry => ({video: form.dataset.video, ...entry, ...(note && {note})}));
};
document.getElementById("save").addEventListener("click", () => {
  const all = [], message = document.getElementById("message");
  let wrong = 0;
  for (const form of document.forms) {
    const alert = form.querySelector(".wrong");
    alert.textContent = "";
    try { all.push(...entries(form)); } catch (error) { alert.textContent = error.message; wrong += 1; }
  }
  message.textContent = wrong
    ? "Nothing was saved; decisions that cannot be understood: " + wrong : all.length + " decisions saved.";
  if (wrong) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(all, null, 1) + "\n"], {type: "application/json"}));
  link.download = "overrides.json";
  link.click();
});
"""


@dataclass(frozen=True)
class _Entry:
    """A video on the page."""

    video: Video
    steps: tuple[Step, ...]
    decided: tuple[Override, ...]

    @property
    def results(self) -> dict[str, Result]:
        """Return the results by stage."""
        return {step.stage: step.result for step in self.steps if step.result}

    @property
    def dropped(self) -> bool:
        """Return whether a stage dropped the video."""
        return bool(self.steps) and self.steps[-1].outcome == "dropped"

    @property
    def doubt(self) -> float:
        """Return how unsure the models were, from 0 (sure) to 1 (a coin toss)."""
        found = [np.atleast_1d(result.content.get("probability", 1.0)) for result in self.results.values()]
        return max((float(1 - 2 * np.abs(each - 0.5).mean()) for each in found if len(each)), default=0.0)


def write_review(
    folder: Path | str,
    path: Path | str | None = None,
    *,
    only: Selection = "doubtful",
    videos: Sequence[str] = (),
    limit: int = 100,
) -> Path:
    """Write the page.

    Args:
        folder: folder of the collection.
        path: `.html` file; by default `review.html` in the folder.
        only: selection of videos: `"doubtful"` shows those first of which the models were least sure; `"kept"`, `"dropped"`
            and `"overridden"` (those that a human decided about) are sorted by id, as are `"all"`.
        videos: ids of the videos to show instead.
        limit: largest number of videos; a video takes about 100 kB.

    Returns:
        The path.

    Raises:
        CurationError: if there is no collection, or a file of it is broken.
        InputError: if the selection does not exist, or a video is unknown.
    """
    if only not in get_args(Selection) or limit < 1:
        raise InputError(
            f"cannot show {limit} videos that are {only!r}; choose one of {', '.join(get_args(Selection))}"
        )
    collection = Collection(folder)
    chosen = list(_chosen(State(collection), only, videos))
    page = _page(collection, chosen[:limit], len(chosen))
    target = Path(path) if path else collection.folder / "review.html"
    with atomic_file(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def _chosen(state: State, only: Selection, videos: Sequence[str]) -> list[_Entry]:
    entries = [
        _Entry(video, tuple(state.steps(video)), tuple(state.overrides.about(video.video_id)))
        for video in state.videos
        if video.status == "collected"
    ]
    if videos:
        by_id = {entry.video.video_id: entry for entry in entries}
        unknown = [name for name in videos if name not in by_id]
        if unknown:
            raise InputError(f"{state.collection.folder} holds no video {unknown[0]!r}")
        return [by_id[name] for name in videos]
    wanted = {
        "kept": lambda entry: not entry.dropped,
        "dropped": lambda entry: entry.dropped,
        "overridden": lambda entry: bool(entry.decided),
    }
    entries = [entry for entry in entries if wanted.get(only, lambda entry: True)(entry)]
    return sorted(entries, key=lambda entry: -entry.doubt) if only == "doubtful" else entries


# --------------------------------------------------------------------------------------------- the page


def _page(collection: Collection, entries: Sequence[_Entry], found: int) -> str:
    legend = "".join(
        f"<li><code>{_text(name)}</code>: {_text(meaning)}</li>" for name, (_, _, meaning) in DECISIONS.items()
    )
    more = f" {found - len(entries)} more are not shown." if found > len(entries) else ""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Review of a collection</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body><main><h1>Review of a collection</h1>",
        f"<p>{len(entries)} videos.{more} What you decide here replaces what was decided before about these videos.</p>",
        '<p class="notice" role="note">These images may show people. Nothing leaves this page but the file that you save. '
        "Take it into the collection with <code>surgvista curate review COLLECTION --apply overrides.json</code>, then run "
        "the stages again.</p>",
        f"<details><summary>What can be decided</summary><ul>{legend}</ul><p>Further decisions stand one on a line: ",
        "<code>non-surgical 61-75</code>, <code>surgical 80-</code>, <code>mask 0 0 200 40 10-20</code> (x1 y1 x2 y2, then ",
        "seconds), <code>unmask 5-9</code>. Seconds count from the one to before the other.</p></details>",
        '<noscript><p class="wrong">Saving needs JavaScript. The file can also be written by hand.</p></noscript>',
        '<div class="bar"><button type="button" id="save">Save overrides</button> ',
        '<output id="message" role="status"></output></div>',
        *(part for entry in entries for part in _article(collection, entry)),
        f"</main><script>{_SCRIPT}</script></body></html>\n",
    ]
    return "\n".join(parts)


def _article(collection: Collection, entry: _Entry) -> Iterator[str]:
    video = entry.video
    yield f'<article><h2 id="v-{video.video_id}">{_text(video.video_id)}</h2>'
    link = f' · <a href="{_text(video.url)}" rel="noreferrer">source</a>' if video.url.startswith("http") else ""
    info = f"{video.seconds:.0f} s, {video.width}×{video.height}, doubt {entry.doubt:.0%}"
    yield f"<p>{_text(_summary(entry))}<br><small>{_text(info)}{link}</small></p>"
    try:
        items = list(_images(collection, entry))
    except VideoReadError as error:
        yield f"<p>No images: {_text(first_line(error))}</p>"
    else:
        yield f'<ul class="sheet">{"".join(items)}</ul>'
    yield _form(entry)
    yield "</article>"


def _summary(entry: _Entry) -> str:
    if not entry.steps:
        return "Nothing was decided yet."
    last, results = entry.steps[-1], entry.results
    if last.outcome == "dropped":
        cause = f"{last.result.cause} {last.result.detail}".strip() if last.result else "dropped by a human"
        return f"Dropped by {last.stage}: {cause}."
    trimmed = results["trim"].content if "trim" in results else {}
    part = f" Seconds {trimmed['first']} to {trimmed['last']} are kept." if "first" in trimmed else ""
    human = " A human kept it." if any(step.overridden for step in entry.steps) else ""
    return f"{last.stage}: {last.outcome}.{part}{human}"


def _images(collection: Collection, entry: _Entry) -> Iterator[str]:
    with SubprocessVideo(collection.video_file(entry.video), LIMITS, spread=_IMAGES) as frames:
        size = frames.info["width"], frames.info["height"]
        for second, frame in frames:
            decision, boxes = _state(entry, second)
            marked = Image.fromarray(frame)
            draw = ImageDraw.Draw(marked)
            scale = frame.shape[1] / size[0]
            for box in boxes:
                draw.rectangle(
                    [round(value * scale) for value in box], outline=(255, 0, 200), width=max(marked.width // 150, 2)
                )
            marked.thumbnail((_WIDTH, _WIDTH))
            covered = f", {len(boxes)} covered" if boxes else ""
            caption = _text(f"second {second:.0f}: {decision}{covered}")
            color = _COLORS[decision]
            yield (
                f'<li><img src="{_encoded(marked)}" alt="{caption}" loading="lazy" style="border-color:{color}">'
                f"<small>{caption}</small></li>"
            )


def _state(entry: _Entry, second: float) -> tuple[str, list[list[int]]]:
    """Return the decision about a moment, and the boxes that are covered in it."""
    results, number = entry.results, int(second)
    trimmed = results["trim"].content if "trim" in results else {}
    frames = results["classify-frames"].content if "classify-frames" in results else {}
    text = trimmed.get("surgical") or frames.get("surgical") or ""
    if number >= len(text):
        return "not looked at", []
    if "first" in trimmed and not trimmed["first"] <= number <= trimmed["last"]:
        return "cut off", []
    boxes = results["mask"].content.get("boxes", {}) if "mask" in results else {}
    return ("surgical" if as_flags(text)[number] else "not surgical"), boxes.get(str(number), [])


def _form(entry: _Entry) -> str:
    name = _text(entry.video.video_id)
    chosen = next((each for each in entry.decided if each.decision in ("keep", "drop")), None)
    more = "\n".join(_line(each) for each in entry.decided if each.decision not in ("keep", "drop"))
    note = next((each.note for each in entry.decided if each.note), "")
    radios = "".join(
        f'<label><input type="radio" name="decision" value="{value}"{" checked" if is_chosen else ""}> {label}</label>'
        for value, label, is_chosen in (
            ("", "as decided", chosen is None),
            ("keep", "keep", chosen is not None and chosen.decision == "keep"),
            ("drop", "drop", chosen is not None and chosen.decision == "drop"),
        )
    )
    start, end = (
        "" if chosen is None or value is None else f"{value:g}"
        for value in ((chosen.start, chosen.end) if chosen else (None, None))
    )
    was_decided = "yes" if entry.decided else ""
    return (
        f'<form data-video="{name}" data-decided="{was_decided}" onsubmit="return false">'
        f"<fieldset><legend>Decision about {name}</legend>{radios}"
        f'<label>from second <input type="number" name="start" min="0" step="any" value="{start}"></label>'
        f'<label>to before <input type="number" name="end" min="0" step="any" value="{end}"></label>'
        f'<p><label>further decisions <textarea name="more" rows="2">{_text(more)}</textarea></label></p>'
        f'<p><label>note <input type="text" name="note" value="{_text(note)}"></label></p>'
        '<p class="wrong" role="alert"></p></fieldset></form>'
    )


def _line(each: Override) -> str:
    """Format a decision as the page parses it."""
    box = " ".join(map(str, each.box)) if each.box else ""
    start, end = ("" if value is None else f"{value:g}" for value in (each.start, each.end))
    time = f"{start}-{end}" if start or end else ""
    return " ".join(part for part in (each.decision, box, time) if part)


def _encoded(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _text(value: str) -> str:
    return html.escape(value, quote=True)
