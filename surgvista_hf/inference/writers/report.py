"""The report of a prediction: one HTML page with a ribbon, durations, uncertain segments, images and the model."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...util.class_colors import UNFAMILIAR_COLOR, class_color, ink_on
from ...util.files import atomic_file
from ...util.messages import preview
from ...util.pages import clock, escape, image_source, page, swatch
from ..prediction.comparison import LabelComparison
from ..prediction.prediction import UNFAMILIAR_LABEL, Segment, VideoPrediction
from .timeline import NOTICE

FrameAt = Callable[[float], np.ndarray]

_WIDTH, _RIBBON, _BAND, _CURVE = 1000, 44, 10, 60  # sizes in the units of the SVG drawing
_TRUTH = _RIBBON + 26  # height of the ribbon of the labels with its caption
_WRONG = "#c00020"
_NUMBERED = 18  # width from which a segment has room for the number of its class
_THUMBNAIL = 180  # width in pixels
_LEAST_CONFIDENT = 5  # segments listed
_SHOWN_SEGMENTS = 60
PAGE_STYLE = """
.segments { display: grid; grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); gap: 1rem }
.segments { padding: 0; list-style: none; overflow-wrap: anywhere }
.segments img { width: 100%; border-radius: .3rem; border-bottom: .4rem solid } .segments small { color: #55555c }
"""


def write_report(
    predictions: VideoPrediction | Mapping[str, VideoPrediction],
    path: str | Path,
    *,
    frame_at: FrameAt | None = None,
    model_info: Mapping[str, Mapping[str, str]] | None = None,
    comparison: LabelComparison | None = None,
) -> None:
    """Write one HTML file that needs no other file and no network.

    Args:
        predictions: the prediction of one model, or those of several by name.
        path: `.html` file to write.
        frame_at: gives the frame (height, width, 3), uint8, at a time in seconds, for an image of each segment; `None`: no
            images.
        model_info: description of each model by its name, as `ClipModel.describe` gives it.
        comparison: the first prediction beside labels of the video, if there are any.
    """
    named = predictions if isinstance(predictions, Mapping) else {"prediction": predictions}
    first = next(iter(named.values()))
    title = f"Prediction of {first.video}"
    parts = [
        f"<h1>{escape(title)}</h1><p>{len(first.seconds)} seconds, each predicted from past frames only.{_privacy(first)}</p>",
        *(f'<p class="notice">{escape(remark)}</p>' for remark in first.remarks),
        f'<p class="notice" role="note"><strong>{escape(NOTICE.capitalize())}.</strong> Confidence is what the model '
        "says of itself; it can be sure and wrong.</p>",
    ]
    parts += [warning_html(prediction, name if len(named) > 1 else "") for name, prediction in named.items()]
    for name, prediction in named.items():
        parts.append(f"<section><h2>{escape(name)}</h2>")
        known = comparison if prediction is first else None
        parts += _classes(prediction) if prediction.multi_label else _phases(prediction, frame_at, known)
        parts += [_model((model_info or {}).get(name, {})), "</section>"]
    with atomic_file(path) as temporary:
        temporary.write_text(page(title, parts, PAGE_STYLE), encoding="utf-8")


def timeline_html(prediction: VideoPrediction, comparison: LabelComparison | None = None) -> str:
    """Return the ribbon of a prediction, or the table of independent classes, as HTML without a page around it.

    Args:
        prediction: the prediction to show.
        comparison: the prediction beside labels, which get a ribbon below, and their metrics in sentences.
    """
    if prediction.multi_label:
        return "".join(_classes(prediction))
    return _ribbon(prediction, comparison) + comparison_html(comparison)


def comparison_html(comparison: LabelComparison | None) -> str:
    """Return the sentences of a comparison as a paragraph; empty where there are no labels."""
    if comparison is None:
        return ""
    first, *others = comparison.sentences
    return f'<p class="comparison"><strong>{escape(first)}</strong> {escape(" ".join(others))}</p>'


def warning_html(prediction: VideoPrediction, name: str = "") -> str:
    """Return a warning where the video is unlike the training data, a paragraph on how alike it is everywhere else.

    Args:
        prediction: a prediction with or without scores of unfamiliarity.
        name: name of the model, where there are several.
    """
    model = f"{escape(name)}: " if name else ""
    if prediction.remark is None:
        return f'<p class="familiarity">{model}{escape(prediction.familiarity_text)}</p>'
    spans = [f"{clock(start)}–{clock(end)}" for start, end in prediction.unfamiliar_spans]
    return (
        f'<p class="warning" role="alert"><strong>{model}{escape(prediction.remark)}.</strong> It has learned from other '
        f"videos and cannot know what these seconds show: {escape(preview(spans, shown=8))}.</p>"
    )


def _phases(
    prediction: VideoPrediction, frame_at: FrameAt | None, comparison: LabelComparison | None = None
) -> list[str]:
    return [
        timeline_html(prediction, comparison),
        "<h3>How long</h3>",
        _durations(prediction),
        "<h3>Where it is in doubt</h3>",
        _doubts(prediction),
        "<h3>Segments</h3>",
        _segments(prediction, frame_at),
    ]


def _ribbon(prediction: VideoPrediction, comparison: LabelComparison | None = None) -> str:
    seconds, segments = prediction.seconds, prediction.segments
    start, end = segments[0].start, segments[-1].end
    scale = _WIDTH / (end - start)
    numbers = {name: number for number, name in enumerate(prediction.class_names)}
    bars = "".join(
        _bar((each.start - start) * scale, (each.end - each.start) * scale, numbers[each.label], _summary(each))
        for each in segments
    )
    highest = prediction.probabilities.max(axis=1)  # (steps,)
    # More points than units of the drawing would only make the file larger.
    shown = np.unique(np.linspace(0, len(seconds) - 1, _WIDTH).round().astype(int))
    band = _band(prediction, start, scale)
    truth = "" if comparison is None else _truth(prediction, comparison, start, scale, _RIBBON + 6)
    if truth:
        band = f'<g transform="translate(0 {_TRUTH})">{band}</g>' if band else ""
    top = _RIBBON + 8 + (_BAND + 6 if band else 0) + (_TRUTH if truth else 0)
    points = [f"{(seconds[step] - start) * scale:.1f},{top + _CURVE * (1 - highest[step]):.1f}" for step in shown]
    # A curve ends where seconds are missing: a line across the gap would look like a prediction.
    breaks = np.searchsorted(shown, np.flatnonzero(np.diff(seconds) > 1.5 * prediction.step) + 1)
    curves = "".join(
        f'<polyline points="{" ".join(points[a:b])}" fill="none" stroke="#444" stroke-width="1"/>'
        for a, b in pairwise([0, *breaks.tolist(), len(points)])
        if a < b
    )
    summary = "; ".join(_summary(each) for each in segments[:40]) + ("; …" if len(segments) > 40 else "")
    shown_names = {each.label for each in segments}
    if comparison is not None:
        shown_names |= {prediction.class_names[label] for label in comparison.truth[comparison.labeled]}
        summary += f". {comparison.sentences[0]}"
    legend = "".join(
        f'<span style="margin-right:1.2em;white-space:nowrap">{swatch(numbers[name])}{numbers[name]} {escape(name)}</span>'
        for name in sorted(shown_names, key=numbers.__getitem__)
    )
    if band:
        fraction = f"{prediction.unfamiliar_fraction:.0%}"
        mark = f'<span class="swatch" style="background:{UNFAMILIAR_COLOR}"></span>'
        legend += f'<span style="white-space:nowrap">{mark}{UNFAMILIAR_LABEL}: {fraction} of the seconds</span>'
        summary += f". {UNFAMILIAR_LABEL.capitalize()}: {fraction} of the seconds"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {top + _CURVE + 18}" role="img" aria-label="{escape("Timeline: " + summary)}">'
        f'{bars}{truth}{band}<rect x="0" y="{top}" width="{_WIDTH}" height="{_CURVE}" fill="#f1f1f4"/>'
        f"{curves}{_label(0, top, 'start', clock(start))}{_label(_WIDTH / 2, top, 'middle', 'confidence, 0 to 1')}"
        f"{_label(_WIDTH, top, 'end', clock(end))}</svg><p>{legend}</p>"
    )


def _truth(prediction: VideoPrediction, comparison: LabelComparison, start: float, scale: float, top: float) -> str:
    """Return the ribbon of the labels, with a red line above the seconds that are predicted otherwise."""
    names = prediction.class_names
    bars = "".join(
        _bar(
            (first - start) * scale,
            (end - first) * scale,
            label,
            f"labeled {names[label]}, {clock(first)} to {clock(end)}",
        )
        for first, end, label in prediction.spans(comparison.truth)
        if label >= 0
    )
    wrong = comparison.labeled & (comparison.truth != comparison.predicted)
    lines = "".join(
        f'<rect x="{(first - start) * scale:.2f}" y="{_RIBBON + 3}" width="{(end - first) * scale:.2f}" height="3" '
        f'fill="{_WRONG}"><title>predicted otherwise from {clock(first)} to {clock(end)}</title></rect>'
        for first, end, is_wrong in prediction.spans(wrong.astype(int))
        if is_wrong
    )
    below = f'<g transform="translate(0 {top + 2})">{bars}</g>'
    caption = f'<text x="0" y="{top + _RIBBON + 16}" font-size="12">above: predicted; below: labeled; red: they differ</text>'
    return f"{lines}{below}{caption}"


def _bar(x: float, width: float, number: int, title: str) -> str:
    """Return a segment of the ribbon, with the number of its class where there is room for it."""
    color = class_color(number)
    rectangle = f'<rect x="{x:.2f}" y="0" width="{width:.2f}" height="{_RIBBON}" fill="{color}">'
    bar = f"{rectangle}<title>{escape(title)}</title></rect>"
    if width < _NUMBERED:
        return bar
    # The page of the demo sets `fill` for texts by CSS, which only a style of the element itself overrides.
    style = f"fill:{ink_on(color)};pointer-events:none"
    return bar + (
        f'<text x="{x + width / 2:.2f}" y="{_RIBBON / 2 + 4}" font-size="12" text-anchor="middle" style="{style}" '
        f'aria-hidden="true">{number}</text>'
    )


def _band(prediction: VideoPrediction, start: float, scale: float) -> str:
    """Return a strip below the ribbon that marks what is unlike the training videos; empty where that is unknown."""
    if prediction.unfamiliar is None:
        return ""
    width = (prediction.segments[-1].end - start) * scale
    back = f'<rect x="0" y="{_RIBBON + 6}" width="{width:.2f}" height="{_BAND}" fill="#e8e8ec"/>'
    return back + "".join(
        f'<rect x="{(first - start) * scale:.2f}" y="{_RIBBON + 6}" width="{(end - first) * scale:.2f}" height="{_BAND}" '
        f'fill="{UNFAMILIAR_COLOR}"><title>{UNFAMILIAR_LABEL} from {clock(first)} to {clock(end)}</title></rect>'
        for first, end in prediction.unfamiliar_spans
    )


def _label(x: float, top: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{top + _CURVE + 14}" font-size="12" text-anchor="{anchor}">{text}</text>'


def _durations(prediction: VideoPrediction) -> str:
    rows, absent, segments = [], [], prediction.segments
    whole = sum(each.end - each.start for each in segments)
    for number, name in enumerate(prediction.class_names):
        mine = [each for each in segments if each.label == name]
        if not mine:
            absent.append(name)
            continue
        total = sum(each.end - each.start for each in mine)
        sure = sum(each.confidence * (each.end - each.start) for each in mine) / total
        values = (clock(total), f"{total / whole:.0%}", str(len(mine)), f"{sure:.0%}")
        cells = "".join(f'<td class="number">{value}</td>' for value in values)
        rows.append(f"<tr><td>{swatch(number)}{escape(name)}</td>{cells}</tr>")
    heads = "".join(
        f'<th class="number">{head}</th>' for head in ("duration", "fraction", "segments", "mean confidence")
    )
    missing = f"<p>Never predicted: {escape(', '.join(absent))}.</p>" if absent else ""
    return f"<table><thead><tr><th>class</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>{missing}"


def _doubts(prediction: VideoPrediction) -> str:
    """Return how often the confidence is low, and the segments of least confidence."""
    probabilities = np.clip(prediction.probabilities, 1e-12, 1)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1) / np.log(max(probabilities.shape[1], 2))
    low = float((prediction.probabilities.max(axis=1) < 0.5).mean())
    least = sorted(prediction.segments, key=lambda each: each.confidence)[:_LEAST_CONFIDENT]
    rows = "".join(f"<li>{escape(_summary(each))}</li>" for each in least)
    return (
        f"<p>In {low:.0%} of the seconds no class has half of the probability; the mean entropy is {entropy.mean():.2f} of "
        f"its maximum. The segments of least confidence:</p><ol>{rows}</ol>"
    )


def _segments(prediction: VideoPrediction, frame_at: FrameAt | None) -> str:
    segments = prediction.segments
    # The images lie in the page, so a video of thousands of short segments must not get one for each.
    longest = sorted(segments, key=lambda each: each.start - each.end)[:_SHOWN_SEGMENTS]
    chosen = [each for each in segments if each in longest]
    images = [_image(prediction, frame_at, _middle(prediction, each)) if frame_at else "" for each in chosen]
    numbers = {name: number for number, name in enumerate(prediction.class_names)}
    items = []
    for each, source in zip(chosen, images, strict=True):
        color = class_color(numbers[each.label])
        image = (
            f'<img src="{source}" alt="frame in {escape(_summary(each))}" style="border-color:{color}">'
            if source
            else ""
        )
        items.append(
            f"<li>{image}<strong>{escape(each.label)}</strong><br>"
            f"<small>{clock(each.start)} – {clock(each.end)}, confidence {each.confidence:.0%}</small></li>"
        )
    left = len(segments) - len(chosen)
    note = f"<p>{left} shorter segments are not shown.</p>" if left else ""
    return f'<ul class="segments">{"".join(items)}</ul>{note}'


def _classes(prediction: VideoPrediction) -> list[str]:
    """Return a table of independent classes with the times at which each was found."""
    rows = []
    for name, segments in prediction.tiers().items():
        total = sum(each.end - each.start for each in segments)
        peak = float(prediction.probabilities[:, prediction.class_names.index(name)].max())
        when = ", ".join(f"{clock(each.start)}–{clock(each.end)}" for each in segments[:12])
        when += f" and {len(segments) - 12} more" if len(segments) > 12 else ""
        numbers = "".join(f'<td class="number">{value}</td>' for value in (clock(total), f"{peak:.0%}"))
        rows.append(f"<tr><td>{escape(name)}</td>{numbers}<td>{when}</td></tr>")
    body = "".join(rows) or '<tr><td colspan="4">nothing was found with a probability above 50 %</td></tr>'
    return [
        '<table><thead><tr><th>class</th><th class="number">time above 50 %</th><th class="number">highest</th><th>when</th>'
        f"</tr></thead><tbody>{body}</tbody></table>"
    ]


def _model(model_info: Mapping[str, str]) -> str:
    if not model_info:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in model_info.items())
    return f"<h3>The model</h3><dl>{rows}</dl>"


def _privacy(prediction: VideoPrediction) -> str:
    if prediction.out_of_body_mask is None:
        return ""
    spans = (
        ", ".join(f"{clock(start)}–{clock(end)}" for start, end in prediction.out_of_body_mask.spans)
        or "nothing was found"
    )
    return f" Outside the patient, as a classifier says, and hidden: {spans}."


def _middle(prediction: VideoPrediction, segment: Segment) -> float:
    """Return the predicted second in the middle of a segment: its frame was seen by the model and by the detector."""
    inside = prediction.seconds[(prediction.seconds >= segment.start) & (prediction.seconds < segment.end)]
    return float(inside[(len(inside) - 1) // 2])


def _image(prediction: VideoPrediction, frame_at: FrameAt, second: float) -> str:
    return image_source(prediction.redacted(frame_at(second), second), _THUMBNAIL)


def _summary(segment: Segment) -> str:
    return f"{segment.label} from {clock(segment.start)} to {clock(segment.end)}, confidence {segment.confidence:.0%}"
