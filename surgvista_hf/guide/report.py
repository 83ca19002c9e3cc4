"""The report on a first model: what the number is worth, prediction over truth, and the moments where it is most wrong."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..datasets_scripts.frame_sets.inspection import Inspection
from ..datasets_scripts.frame_sets.label_table import LabelColumn, VideoRows
from ..evaluation.metrics.statistics import bootstrap_interval, paired_wilcoxon
from ..inference.evaluation import Evaluation
from ..inference.writers.timeline import NOTICE
from ..util.class_colors import class_color, ink_on
from ..util.files import atomic_file
from ..util.pages import clock, escape, image_source, page, swatch, table
from .plan import Plan

_WIDTH, _RIBBON, _CURVE, _ROW = 1000, 26, 34, 9  # sizes in the units of the SVG drawing
_NUMBERED = 16
_MOMENTS = 24
_MOMENTS_OF_VIDEO = 8  # so that one bad operation does not fill the sheet
_IMAGE_WIDTH = 190  # pixels
_CONFUSIONS = 8
_ACTIVE = 0.5
_SIGNIFICANT = 0.05
_MOST_CLASSES = 12  # of a set, in a timeline
_STYLE = """
.sheet { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)) }
figure { margin: 0 } figure img { width: 100%; display: block; border-bottom: .3rem solid }
figcaption { font-size: .75rem; color: #55555c; line-height: 1.3 } figcaption b { color: #1b1b1f }
.number-line { font-size: 1.25rem; margin: .6rem 0 } .soft { color: #55555c; font-weight: normal; font-size: .85rem }
h3 { font-size: 1rem; margin: 1rem 0 .1rem } pre { background: #f4f4f6; padding: .7rem; overflow-x: auto; font-size: .8rem }
.legend > span { margin-right: 1.2em; white-space: nowrap }
"""


@dataclass(frozen=True, eq=False)
class Answer:
    """Everything that the report says.

    Args:
        inspection: the frame set.
        column: the labels that were learned.
        plan: encoder, head and held-out operations, with the reasons.
        evaluation: predictions and metrics on held-out operations.
        baseline: accuracy on each operation of always choosing the most frequent class.
        commands: commands that repeat the steps.
    """

    inspection: Inspection
    column: LabelColumn
    plan: Plan
    evaluation: Evaluation
    baseline: Mapping[str, float]
    commands: tuple[str, ...]

    @cached_property
    def videos(self) -> dict[str, tuple[VideoRows, np.ndarray, np.ndarray]]:
        """Return each tested video with the indices of its frames and their scores (frames, classes), by its name."""
        predictions = self.evaluation.predictions
        frames, scores = predictions.by_video(predictions.frames), predictions.by_video(predictions.scores)
        known = {video.name: video for video in self.inspection.table.videos}
        named = {name: known.get(name) or known[name.partition("/")[2]] for name in frames}
        return {video.name: (video, frames[name].astype(int), scores[name]) for name, video in named.items()}

    @property
    def _frequency(self) -> float:
        """Return the mean over classes of how often they are there, which is the average precision of guesses."""
        frequencies = (self.evaluation.predictions.labels >= _ACTIVE).mean(axis=0)  # (classes,)
        return float(frequencies[frequencies > 0].mean())

    @property
    def sentences(self) -> list[str]:
        """Return what the number is and what it is worth, in sentences."""
        by_video = self.evaluation.by_video
        values = list(by_video.values())
        if not values:
            return ["No operation could be judged."]
        if not self.baseline:
            what = self.evaluation.task.main_metric.replace("_", " ")
            return [
                f"On {len(values)} operations that the model has not seen, the {what} is {np.mean(values):.0%} in the mean, "
                f"and from {min(values):.0%} to {max(values):.0%} by operation.",
                f"Guessing gives {self._frequency:.0%} on average over the classes.",
            ]
        found = [
            f"On {len(values)} operations that the model has not seen, it was right in {np.mean(values):.0%} of the labeled "
            f"time of an operation in the mean, and from {min(values):.0%} to {max(values):.0%} by operation."
        ]
        usual = float(np.mean(list(self.baseline.values())))
        better = sum(by_video[video] > self.baseline[video] for video in by_video)
        found.append(
            f"Always saying the class that is most frequent in the other operations would be right in {usual:.0%}; the model "
            f"is better in {better} of {len(values)} operations."
        )
        if np.mean(values) <= usual:
            found.append(
                "The model has learned nothing that helps. Look at the page of the data first: a swapped file, or labels that "
                "are shifted in time, have this effect; then take an encoder that was trained on surgery, or label more."
            )
        elif (p_value := paired_wilcoxon(by_video, self.baseline).p_value) >= _SIGNIFICANT:
            found.append(
                f"Chance alone could explain this difference (p = {p_value:.2f}, Wilcoxon): do not rely on the model yet."
            )
        if len(values) > 1:
            interval = bootstrap_interval(
                lambda drawn: float(np.mean([by_video[video] for video in drawn])), list(by_video)
            )
            found.append(
                f"By chance of these {len(values)} operations alone, the mean may be from {interval.low:.0%} to "
                f"{interval.high:.0%} (95 %)."
            )
        return found


def write_answer(answer: Answer, path: Path, *, images: bool = True) -> None:
    """Write the report as one HTML file that needs no other file and no network.

    Args:
        answer: everything that it says.
        path: `.html` file to write.
        images: show frames of the worst moments. They are patient data, and so is the page then.
    """
    names = answer.column.names
    warnings = "".join(f"<li>{escape(text)}</li>" for text in answer.plan.warnings)
    notice = (
        "This page holds frames of the recordings: patient data. Treat it as the recordings themselves."
        if images
        else "No frames are shown. Names of videos may tell who was operated on."
    )
    parts = [
        f"<h1>First model of {escape(answer.column.name)}</h1>",
        f'<p class="notice"><strong>{escape(NOTICE.capitalize())}.</strong> {escape(notice)}</p>',
        *(f'<p class="number-line">{escape(text)}</p>' for text in answer.sentences[:1]),
        *(f"<p>{escape(text)}</p>" for text in answer.sentences[1:]),
        f'<div class="warning"><strong>What the labels do not suffice for</strong><ul>{warnings}</ul></div>'
        if warnings
        else "",
        '<p><a href="inspection.html">What was understood of the data</a> · <a href="tested/tables.md">all metrics</a></p>',
        "<h2>What was done</h2>",
        f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in answer.plan.reasons)}</ul>",
        "<h2>Prediction over truth</h2>",
        _legend(names, answer),
        *(_timeline(answer, name) for name in answer.videos),
        "<h2>Class by class</h2>",
        _classes(answer),
        _confusions(answer),
        _moments(answer, images),
        "<h2>Again, step by step</h2>",
        f"<pre>{escape(chr(10).join(answer.commands))}</pre>",
        "<p>After labels were corrected or added, the same command does what has changed and no more.</p>",
    ]
    with atomic_file(path) as temporary:
        temporary.write_text(page(f"First model of {answer.column.name}", parts, _STYLE), encoding="utf-8")


def _legend(names: tuple[str, ...], answer: Answer) -> str:
    shown = sorted(answer.inspection.holders(answer.column))
    classes = "".join(f"<span>{swatch(number)}{number} {escape(names[number])}</span>" for number in shown)
    return (
        f'<p class="legend">{classes}</p><p class="soft">Blank: no label, or no frame. All have one scale of time.</p>'
    )


# ------------------------------------------------------------------------------------------- timelines


def _timeline(answer: Answer, name: str) -> str:
    video, frames, scores = answer.videos[name]
    longest = max(each.length for each, _, _ in answer.videos.values())
    scale = _WIDTH / longest
    value = next(
        (v for key, v in answer.evaluation.by_video.items() if key in (name, f"{key.partition('/')[0]}/{name}")), None
    )
    drawing = (
        _sets(answer, video, frames, scores, scale)
        if answer.column.kind == "classes"
        else _ribbons(answer, video, frames, scores, scale)
    )
    metric = "right" if answer.baseline else answer.evaluation.task.main_metric.replace("_", " ")
    judged = "" if value is None or math.isnan(value) else f"{value:.0%} {metric}"
    return f'<h3>{escape(name)} <span class="soft">{clock(video.length)}; {judged}</span></h3>{drawing}'


def _ribbons(answer: Answer, video: VideoRows, frames: np.ndarray, scores: np.ndarray, scale: float) -> str:
    """Return predicted and true classes one above the other, marks where they differ, and the confidence."""
    truth = answer.column.values[video.rows]
    predicted = np.full(len(video.rows), -1)
    predicted[frames] = scores.argmax(axis=1)
    wrong = np.where((predicted >= 0) & (predicted != truth), 0, -1)
    parts = _row(answer, video, predicted, 0, _RIBBON, scale) + _row(answer, video, truth, _RIBBON + 3, _RIBBON, scale)
    top = 2 * _RIBBON + 6
    parts += [
        f'<rect x="{each.start * scale:.2f}" y="{top}" width="{(each.stop - each.start) * scale:.2f}" height="5" '
        f'fill="#1b1b1f"><title>wrong from {clock(each.start)} to {clock(each.stop)}</title></rect>'
        for each in video.stretches(wrong)
    ]
    top += 9
    confidence = np.full(len(video.rows), np.nan)
    confidence[frames] = scores.max(axis=1)
    parts.append(f'<rect x="0" y="{top}" width="{video.length * scale:.1f}" height="{_CURVE}" fill="#f1f1f4"/>')
    # A bar for each frame, not a line: a line would cross times without frames.
    ends = video.seconds + video.durations
    step = max(1, len(frames) // _WIDTH)
    parts += [
        f'<rect x="{video.seconds[k] * scale:.1f}" y="{top + _CURVE * (1 - confidence[k]):.1f}" '
        f'width="{max((ends[k] - video.seconds[k]) * step * scale, 0.4):.1f}" height="{_CURVE * confidence[k]:.1f}" '
        'fill="#9a9aa2"/>'
        for k in frames[::step]
    ]
    labels = (
        ("predicted", _RIBBON / 2 + 4),
        ("labeled", 1.5 * _RIBBON + 7),
        ("wrong", 2 * _RIBBON + 11),
        ("confidence", top + 20),
    )
    texts = "".join(f'<text x="{_WIDTH + 8}" y="{y}" font-size="11">{text}</text>' for text, y in labels)
    named = escape(f"Timeline of {video.name}: predicted above labeled")
    height = top + _CURVE + 2
    return f'<svg viewBox="0 0 {_WIDTH + 80} {height}" role="img" aria-label="{named}">{"".join(parts)}{texts}</svg>'


def _row(answer: Answer, video: VideoRows, values: np.ndarray, top: int, height: int, scale: float) -> list[str]:
    parts = [f'<rect x="0" y="{top}" width="{video.length * scale:.1f}" height="{height}" fill="#ededf1"/>']
    for each in video.stretches(values):
        width, color = (each.stop - each.start) * scale, class_color(each.number)
        title = escape(f"{answer.column.names[each.number]} from {clock(each.start)} to {clock(each.stop)}")
        parts.append(
            f'<rect x="{each.start * scale:.2f}" y="{top}" width="{max(width, 0.4):.2f}" height="{height}" fill="{color}">'
            f"<title>{title}</title></rect>"
        )
        if width >= _NUMBERED and height > 12:
            parts.append(
                f'<text x="{(each.start + each.stop) / 2 * scale:.1f}" y="{top + height / 2 + 4}" font-size="11" '
                f'text-anchor="middle" fill="{ink_on(color)}" aria-hidden="true">{each.number}</text>'
            )
    return parts


def _sets(answer: Answer, video: VideoRows, frames: np.ndarray, scores: np.ndarray, scale: float) -> str:
    """Return two thin rows for each of the most frequent classes: predicted above labeled."""
    counts = answer.column.values.sum(axis=0)
    parts, top = [], 0
    for number in sorted(np.argsort(-counts, kind="stable")[:_MOST_CLASSES].tolist()):
        if not counts[number]:
            continue
        predicted = np.full(len(video.rows), -1)
        predicted[frames[scores[:, number] > _ACTIVE]] = number
        truth = np.where(answer.column.values[video.rows, number], number, -1)
        parts += _row(answer, video, predicted, top, _ROW, scale) + _row(
            answer, video, truth, top + _ROW + 1, _ROW, scale
        )
        parts.append(
            f'<text x="{_WIDTH + 8}" y="{top + 13}" font-size="10">{escape(answer.column.names[number][:24])}</text>'
        )
        top += 2 * _ROW + 6
    named = escape(f"Timeline of {video.name}: each class predicted above labeled")
    return f'<svg viewBox="0 0 {_WIDTH + 130} {top}" role="img" aria-label="{named}">{"".join(parts)}</svg>'


# ------------------------------------------------------------------------------------------- classes


def _classes(answer: Answer) -> str:
    labels, scores = answer.evaluation.predictions.labels, answer.evaluation.predictions.scores
    multi_label = answer.evaluation.task.multi_label
    truth = labels >= _ACTIVE if multi_label else labels[:, None] == np.arange(scores.shape[1])  # (clips, classes)
    predicted = scores > _ACTIVE if multi_label else scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
    holders = answer.inspection.holders(answer.column)
    rows = []
    for number, name in enumerate(answer.column.names):
        if not truth[:, number].any():
            continue
        both = float((truth & predicted)[:, number].sum())
        found, claimed = both / truth[:, number].sum(), predicted[:, number].sum()
        right = f"{both / claimed:.0%}" if claimed else "never said"
        time = clock(answer.inspection.seconds_of(answer.column, number))
        rows.append(
            (f"{swatch(number)}{number} {escape(name)}", str(len(holders[number])), time, f"{found:.0%}", right)
        )
    return table(("class", "operations", "labeled time", "found", "right when said"), rows, numbers=4)


def _confusions(answer: Answer) -> str:
    if answer.evaluation.task.multi_label:
        return ""
    labels, predicted = answer.evaluation.predictions.labels, answer.evaluation.predictions.scores.argmax(axis=1)
    names, count = answer.column.names, len(answer.column.names)
    matrix = np.bincount(labels.astype(int) * count + predicted, minlength=count * count).reshape(count, count)
    np.fill_diagonal(matrix, 0)
    wrong = int(matrix.sum())
    if not wrong:
        return "<p>Nothing was taken for something else.</p>"
    items = []
    for flat in np.argsort(-matrix, axis=None, kind="stable")[:_CONFUSIONS]:
        a, b = divmod(int(flat), count)
        if matrix[a, b]:
            part = f"{matrix[a, b] / wrong:.0%}"
            items.append(
                f"<li>{swatch(a)}{escape(names[a])} taken for {swatch(b)}{escape(names[b])}: {part} of all errors</li>"
            )
    return f"<h3>What is taken for what</h3><ul>{''.join(items)}</ul>"


# ------------------------------------------------------------------------------------------- worst moments


@dataclass(frozen=True)
class Moment:
    """A time at which the model is sure and wrong.

    Args:
        video: name of the video.
        frame: index of the frame in it that is shown.
        start, stop: beginning and end of the wrong time in seconds.
        predicted, labeled: names of the classes.
        number: index of the predicted class.
        confidence: probability of the predicted class at this frame; for independent classes how far it is from the label.
        weight: sum of the probabilities of wrong classes over this time in seconds, by which moments are ordered.
    """

    video: str
    frame: int
    start: float
    stop: float
    predicted: str
    labeled: str
    number: int
    confidence: float
    weight: float


def worst_moments(answer: Answer, count: int = _MOMENTS) -> list[Moment]:
    """Return the times at which the model is wrong for long and sure of it, the worst first.

    Args:
        answer: predictions and labels.
        count: largest number of moments; at most a third of them, but eight at least, are of one video.
    """
    moments = [moment for name in answer.videos for moment in _moments_of(answer, name)]
    ordered = sorted(moments, key=lambda each: (-each.weight, each.video, each.start))
    most = max(_MOMENTS_OF_VIDEO, math.ceil(count / max(len(answer.videos), 1)))
    taken: dict[str, int] = {}
    chosen: list[Moment] = []
    for moment in ordered:
        if taken.get(moment.video, 0) < most and len(chosen) < count:
            taken[moment.video] = taken.get(moment.video, 0) + 1
            chosen.append(moment)
    return chosen


def _moments_of(answer: Answer, name: str) -> list[Moment]:
    """Return the wrong times of one video: runs of one wrong class for one label, or of one independent class."""
    video, frames, scores = answer.videos[name]
    names, found = answer.column.names, []
    if answer.column.kind == "class":
        truth, predicted = answer.column.values[video.rows][frames], scores.argmax(axis=1)
        codes = np.where(predicted != truth, predicted * len(names) + truth, -1)
        layers = [(codes, scores.max(axis=1))]
    else:
        labels = answer.column.values[video.rows][frames]
        layers = [
            (
                np.where((scores[:, number] > _ACTIVE) != labels[:, number], number, -1),
                np.abs(scores[:, number] - labels[:, number]),
            )
            for number in range(len(names))
        ]
    for codes, sure in layers:
        whole, confidence = np.full(len(video.rows), -1), np.zeros(len(video.rows))
        whole[frames], confidence[frames] = codes, sure
        for each in video.stretches(whole):
            inside = np.flatnonzero((video.seconds >= each.start - 1e-6) & (video.seconds < each.stop - 1e-6))
            frame = int(inside[confidence[inside].argmax()])
            if answer.column.kind == "class":
                number, label = divmod(each.number, len(names))
                claimed, true = names[number], names[label]
            else:
                number = each.number
                has = bool(answer.column.values[video.rows[frame], number])
                claimed, true = (
                    (f"no {names[number]}", names[number]) if has else (names[number], f"no {names[number]}")
                )
            weight = float((confidence[inside] * video.durations[inside]).sum())
            found.append(
                Moment(name, frame, each.start, each.stop, claimed, true, number, float(confidence[frame]), weight)
            )
    return found


def _moments(answer: Answer, images: bool) -> str:
    chosen = worst_moments(answer)
    head = "<h2>Where it is most wrong</h2>"
    if not chosen:
        return head + "<p>Nothing was wrong.</p>"
    cells = []
    for moment in chosen:
        video = answer.videos[moment.video][0]
        at = float(video.seconds[moment.frame])
        caption = (
            f"<b>{escape(moment.video)} {clock(at)}</b><br>says {escape(moment.predicted)} ({moment.confidence:.0%})<br>"
            f"labeled {escape(moment.labeled)}<br>wrong from {clock(moment.start)} to {clock(moment.stop)}"
        )
        image = ""
        if images:
            frame = answer.inspection.image_at(int(video.rows[moment.frame]), _IMAGE_WIDTH)
            color = class_color(moment.number)
            text = escape(f"{moment.video} at {clock(at)}: says {moment.predicted}, labeled {moment.labeled}")
            image = f'<img src="{image_source(frame, _IMAGE_WIDTH, 75)}" alt="{text}" style="border-color:{color}">'
        cells.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return (
        f"{head}<p>The times at which the model is wrong for long and sure of it. Some may be mistakes of the labels.</p>"
        f'<div class="sheet">{"".join(cells)}</div>'
    )
