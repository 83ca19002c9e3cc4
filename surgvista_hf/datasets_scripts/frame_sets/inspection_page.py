"""The page that shows a frame set as it was understood: what is odd, classes, a ribbon and frames of every video, examples."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...util.class_colors import class_color, ink_on
from ...util.files import atomic_file
from ...util.pages import clock, escape, image_source, page, swatch, table
from .inspection import Finding, Inspection
from .label_table import LabelColumn, VideoRows

_WIDTH, _RIBBON, _ROW = 1000, 30, 9  # sizes in the units of the SVG drawing
_NUMBERED = 16  # width from which a stretch has room for the number of its class
_IMAGE_WIDTH = 132  # pixels
_STRIP = 10  # frames below the ribbon of a video
_EXAMPLES = 10  # frames of a class
_MOST_VIDEOS = 150  # with frames and ribbons of their own
_MOST_ROWS, _FEWER_ROWS = 12, 4  # classes of a set that the drawing of a video shows, with few and with many videos
_MANY_VIDEOS = 25
_MOST_CLASSES = 150  # of a column that are shown with frames
_MOST_PAIRS = 20
_CROSSED = 20  # classes of a column up to which tables are open and crossed with others
_GAP_COLOR, _UNLABELED_COLOR = "#9a9aa2", "#ededf1"
_STYLE = """
.strip, .examples { display: grid; gap: .3rem; margin: .3rem 0 }
.strip { grid-template-columns: repeat(10, 1fr) } .examples { grid-template-columns: repeat(10, 1fr) }
@media (max-width: 46rem) { .strip, .examples { grid-template-columns: repeat(5, 1fr) } }
figure { margin: 0 } figure img { width: 100%; display: block; border-bottom: .3rem solid } figcaption { font-size: .68rem }
figcaption { color: #55555c; overflow-wrap: anywhere; line-height: 1.25 }
section.video { margin: 1.3rem 0 } section.video h3, h3.class { font-size: 1rem; margin: .8rem 0 .1rem }
.flag { color: #a33c00 } .soft { color: #55555c; font-weight: normal; font-size: .85rem }
.legend > span { margin-right: 1.2em; white-space: nowrap } .findings li { margin: .25rem 0 }
.heat { color: #1b1b1f } nav a { margin-right: 1.2em }
"""


def write_inspection(inspection: Inspection, path: str | Path, *, images: bool = True) -> None:
    """Write one HTML file that needs no other file and no network.

    Args:
        inspection: the frame set as it was understood.
        path: `.html` file to write.
        images: show frames. They are patient data, and so is the page then.
    """
    parts = [
        f"<h1>{escape(inspection.title)}</h1>",
        _summary(inspection),
        _privacy(images),
        '<nav><a href="#odd">What to look at</a><a href="#videos">Videos</a><a href="#classes">Classes</a>'
        '<a href="#order">Order and co-occurrence</a><a href="#examples">Frames of each class</a></nav>',
        _findings(inspection.findings, len(inspection.table.videos)),
        _videos(inspection, images),
        _classes(inspection),
        _splits(inspection),
        _orders(inspection),
        *(_examples(inspection, column) for column in inspection.columns if images and column.kind != "numbers"),
    ]
    with atomic_file(path) as temporary:
        temporary.write_text(page(f"Inspection of {inspection.title}", parts, _STYLE), encoding="utf-8")


def _summary(inspection: Inspection) -> str:
    videos = inspection.table.videos
    frames = sum(len(video.rows) for video in videos)
    shown = sum(float(video.durations.sum()) for video in videos)
    labels = ", ".join(f"{column.name} ({len(column.names)})" for column in inspection.columns) or "no labels"
    return (
        f"<p>{len(videos)} videos, {sum(video.length for video in videos) / 3600:.2f} h of recordings; {frames:,} frames, "
        f"which stand for {shown / 3600:.2f} h. Labels: {escape(labels)}.</p>"
    )


def _privacy(images: bool) -> str:
    if not images:
        return '<p class="notice">No frames are shown. Names of videos may tell who was operated on.</p>'
    return (
        '<p class="notice" role="note"><strong>This page holds frames of the recordings: patient data.</strong> Whoever gets '
        "the page gets the frames; treat it as the recordings themselves. <code>--no-images</code> writes a page without "
        "them.</p>"
    )


def _findings(findings: list[Finding], videos: int) -> str:
    head = '<h2 id="odd">What to look at first</h2>'
    if not findings:
        few = " With so few videos little can be called unusual." if videos < 4 else ""
        return f"{head}<p>Nothing odd was found.{few} Look at the frames all the same: no program knows the operation.</p>"
    items = []
    for finding in findings:
        link = f'<a href="#{_anchor(finding.video)}">{escape(finding.video)}</a> ' if finding.video else ""
        items.append(f'<li class="{finding.kind}">{link}{escape(finding.text)}</li>')
    return (
        f'{head}<div class="warning"><ul class="findings">{"".join(items)}</ul></div>'
        '<p class="soft">These may be right. They differ from the other videos, so they are where a mistake would be.</p>'
    )


def _anchor(video: str) -> str:
    return "video-" + "".join(letter if letter.isalnum() else "-" for letter in video)


# ------------------------------------------------------------------------------------------- classes and splits


def _classes(inspection: Inspection) -> str:
    parts = ['<h2 id="classes">Classes</h2>']
    if not inspection.columns:
        return parts[0] + "<p>The frame set has no labels.</p>"
    for column in inspection.columns:
        labeled = float(column.labeled.mean())
        constant = " One value for each whole video." if inspection.is_constant(column) else ""
        parts.append(
            f'<h3 class="class">{escape(column.name)} <span class="soft">{labeled:.0%} of the frames are labeled.{constant}'
            "</span></h3>"
        )
        parts.append(_number_table(column) if column.kind == "numbers" else _class_table(inspection, column))
    return "".join(parts)


def _class_table(inspection: Inspection, column: LabelColumn) -> str:
    total, holders = len(inspection.table.videos), inspection.holders(column)
    whole = sum(float(video.durations[column.labeled[video.rows]].sum()) for video in inspection.table.videos)
    rows = []
    for number, name in enumerate(column.names):
        if number not in holders:
            continue
        seconds, frames = inspection.seconds_of(column, number), int(column.holds(number).sum())
        few = ' class="flag"' if len(holders[number]) == 1 < total else ""
        videos = f"<span{few}>{len(holders[number])} of {total}</span>"
        label = f"{swatch(number)}{number} {escape(name)}"
        rows.append((label, clock(seconds), f"{seconds / whole:.1%}", f"{frames:,}", videos))
    absent = [name for number, name in enumerate(column.names) if number not in holders]
    left = f"<p>In no video: {escape(', '.join(absent))}.</p>" if absent else ""
    shown = table(("class", "time", "of the labeled time", "frames", "videos"), rows, numbers=4) + left
    return shown if len(rows) <= _CROSSED else f"<details><summary>{len(rows)} classes</summary>{shown}</details>"


def _number_table(column: LabelColumn) -> str:
    known = column.values[column.labeled]
    rows = []
    for number, name in enumerate(column.names):
        values = known[:, number][~np.isnan(known[:, number])]
        if len(values):
            rows.append((escape(name), *(f"{value:.3g}" for value in (values.min(), values.mean(), values.max()))))
    return table(("number", "least", "mean", "most"), rows, numbers=3)


def _splits(inspection: Inspection) -> str:
    if not inspection.splits:
        return ""
    members = defaultdict(list)
    for video in inspection.table.videos:
        members[inspection.splits.get(video.name, "in no split")].append(video)
    rows = [
        (
            escape(split),
            str(len(videos)),
            clock(sum(video.length for video in videos)),
            escape(", ".join(video.name for video in videos[:30])),
        )
        for split, videos in members.items()
    ]
    return (
        f'<h2 id="splits">Splits by the protocol {escape(inspection.protocol)}</h2>'
        f"{table(('split', 'videos', 'length', 'names'), rows)}"
    )


# ------------------------------------------------------------------------------------------- videos


def _videos(inspection: Inspection, images: bool) -> str:
    videos = inspection.table.videos
    flagged = Counter(finding.video for finding in inspection.findings)
    # Odd ones first where not all can be shown; otherwise the order of the frame set is easier to find a video in.
    ordered = sorted(videos, key=lambda video: -flagged[video.name]) if len(videos) > _MOST_VIDEOS else list(videos)
    longest = max(video.length for video in videos)
    parts = ['<h2 id="videos">Videos</h2>', _legend(inspection)]
    parts += [_video(inspection, video, longest, images) for video in ordered[:_MOST_VIDEOS]]
    if len(videos) > _MOST_VIDEOS:
        parts.append(f"<p>{len(videos) - _MOST_VIDEOS} further videos, of which less is odd, are not shown.</p>")
    return "".join(parts)


def _legend(inspection: Inspection) -> str:
    marks = [
        f'<span><span class="swatch" style="background:{color}"></span>{text}</span>'
        for color, text in ((_UNLABELED_COLOR, "no label"), (_GAP_COLOR, "no frames (gap)"))
    ]
    column = inspection.main
    names = inspection.holders(column) if column else {}
    classes = (
        [f"<span>{swatch(number)}{number} {escape(column.names[number])}</span>" for number in names] if column else []
    )
    return f'<p class="legend">{"".join([*classes, *marks])} All ribbons have the same scale of time.</p>'


def _video(inspection: Inspection, video: VideoRows, longest: float, images: bool) -> str:
    mine = [finding for finding in inspection.findings if finding.video == video.name]
    notes = "".join(f'<li class="flag">{escape(finding.text)}</li>' for finding in mine)
    split = inspection.splits.get(video.name, "")
    gaps = video.gaps
    missing = f", {len(gaps)} gaps of {clock(sum(stop - start for start, stop in gaps))} in all" if gaps else ""
    main = inspection.main
    labeled = f", {main.labeled[video.rows].mean():.0%} labeled" if main else ""
    summary = (
        f"{clock(video.length)}, {len(video.rows):,} frames{missing}{labeled}{', ' + escape(split) if split else ''}"
    )
    strip = _strip(inspection, video) if images else ""
    return (
        f'<section class="video" id="{_anchor(video.name)}"><h3>{escape(video.name)} <span class="soft">{summary}</span></h3>'
        f"{f'<ul>{notes}</ul>' if notes else ''}{_drawing(inspection, video, longest)}{strip}</section>"
    )


def _drawing(inspection: Inspection, video: VideoRows, longest: float) -> str:
    """Return the ribbon of the main column, and a thin row for each of the most frequent classes of the sets."""
    scale = _WIDTH / longest if longest else 1.0
    parts: list[str] = []
    top = 0
    main = inspection.main
    described = "frames"
    if main is not None:
        stretches = video.stretches(main.values[video.rows])
        parts += [_base(video, scale, top, _RIBBON)]
        for each in stretches:
            title = f"{main.names[each.number]} from {clock(each.start)} to {clock(each.stop)}"
            parts.append(_bar(each.start * scale, (each.stop - each.start) * scale, top, _RIBBON, each.number, title))
        parts.append(_gaps(video, scale, top, _RIBBON))
        described = "; ".join(f"{main.names[each.number]} from {clock(each.start)}" for each in stretches[:30])
        top += _RIBBON + 4
    most = _MOST_ROWS if len(inspection.table.videos) <= _MANY_VIDEOS else _FEWER_ROWS  # or the page becomes too large
    for column in inspection.columns:
        if column.kind != "classes":
            continue
        counts = column.values.sum(axis=0)
        for number in sorted(np.argsort(-counts, kind="stable")[:most].tolist()):
            if not counts[number]:
                continue
            present = np.where(column.values[video.rows, number], number, -1)
            parts.append(_base(video, scale, top, _ROW - 2))
            for each in video.stretches(present):
                title = f"{column.names[number]} from {clock(each.start)} to {clock(each.stop)}"
                parts.append(_bar(each.start * scale, (each.stop - each.start) * scale, top, _ROW - 2, number, title))
            parts.append(
                f'<text x="{_WIDTH + 6}" y="{top + 7}" font-size="8">{escape(column.names[number][:26])}</text>'
            )
            top += _ROW
        top += 3
    if main is None and top == 0:
        parts.append(_base(video, scale, 0, _RIBBON) + _gaps(video, scale, 0, _RIBBON))
        top = _RIBBON + 4
    label = escape(f"Timeline of {video.name}: {described}")
    return f'<svg viewBox="0 0 {_WIDTH + 120} {top}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _base(video: VideoRows, scale: float, top: int, height: int) -> str:
    return f'<rect x="0" y="{top}" width="{video.length * scale:.2f}" height="{height}" fill="{_UNLABELED_COLOR}"/>'


def _gaps(video: VideoRows, scale: float, top: int, height: int) -> str:
    spans = [(0.0, video.start), *video.gaps, (video.stop, video.length)]
    return "".join(
        f'<rect x="{start * scale:.2f}" y="{top}" width="{(stop - start) * scale:.2f}" height="{height}" fill="{_GAP_COLOR}">'
        f"<title>no frames from {clock(start)} to {clock(stop)}</title></rect>"
        for start, stop in spans
        if stop - start > 1.5 * video.step
    )


def _bar(x: float, width: float, top: int, height: int, number: int, title: str) -> str:
    color = class_color(number)
    bar = (
        f'<rect x="{x:.2f}" y="{top}" width="{max(width, 0.4):.2f}" height="{height}" fill="{color}">'
        f"<title>{escape(title)}</title></rect>"
    )
    if width < _NUMBERED or height < 12:
        return bar
    return bar + (
        f'<text x="{x + width / 2:.2f}" y="{top + height / 2 + 4}" font-size="11" text-anchor="middle" '
        f'fill="{ink_on(color)}" aria-hidden="true">{number}</text>'
    )


def _strip(inspection: Inspection, video: VideoRows) -> str:
    """Return frames from the whole length of a video, each with its class."""
    chosen = np.unique(np.linspace(0, len(video.rows) - 1, _STRIP).round().astype(int)).tolist()
    main = inspection.main
    shown = []
    for frame in chosen:
        number = int(main.values[video.rows[frame]]) if main is not None else -1
        name = main.names[number] if main is not None and number >= 0 else "no label"
        shown.append(_figure(inspection, video, frame, number, f"{clock(float(video.seconds[frame]))} {name}"))
    return f'<div class="strip">{"".join(shown)}</div>'


def _figure(inspection: Inspection, video: VideoRows, frame: int, number: int, caption: str) -> str:
    source = image_source(inspection.image_at(int(video.rows[frame]), _IMAGE_WIDTH), _IMAGE_WIDTH, quality=70)
    color = class_color(number) if number >= 0 else _UNLABELED_COLOR
    text = escape(caption)
    return (
        f'<figure><img src="{source}" alt="{escape(video.name)} at {text}" style="border-color:{color}" loading="lazy">'
        f"<figcaption>{text}</figcaption></figure>"
    )


# ------------------------------------------------------------------------------------------- order, co-occurrence


def _orders(inspection: Inspection) -> str:
    parts = ['<h2 id="order">Order and co-occurrence</h2>']
    videos = len(inspection.table.videos)
    for column in inspection.columns:
        if column.kind == "class" and not inspection.is_constant(column):
            parts.append(f'<h3 class="class">{escape(column.name)}: what follows what</h3>')
            parts.append(_transition_table(inspection, column, videos))
        if column.kind == "classes":
            parts.append(f'<h3 class="class">{escape(column.name)}: what is there at once</h3>')
            parts.append(_pair_table(inspection, column, videos))
    main = inspection.main
    for column in inspection.columns:
        if main is not None and column.kind == "classes" and len(column.names) <= _CROSSED:
            parts.append(f'<h3 class="class">{escape(column.name)} by {escape(main.name)}</h3>')
            parts.append(_crossed(main, column))
    return "".join(parts) if len(parts) > 1 else ""


def _transition_table(inspection: Inspection, column: LabelColumn, videos: int) -> str:
    found = inspection.transitions(column)
    if not found:
        return "<p>No class follows another.</p>"
    rows = []
    for (before, after), where in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])):
        rows.append((*(f"{swatch(n)}{escape(column.names[n])}" for n in (before, after)), *_where(where, videos)))
    return table(("class", "is followed by", "where", "videos"), rows, numbers=1)


def _where(where: dict[str, list[float]], videos: int) -> tuple[str, str]:
    """Return the moments of what only one or two videos have, and the number of videos."""
    times = ""
    if len(where) <= 2:
        times = "; ".join(
            f'<a href="#{_anchor(video)}">{escape(video)}</a> {", ".join(map(clock, seconds[:4]))}'
            for video, seconds in where.items()
        )
    flag = ' class="flag"' if len(where) == 1 < videos else ""
    return times, f"<span{flag}>{len(where)} of {videos}</span>"


def _pair_table(inspection: Inspection, column: LabelColumn, videos: int) -> str:
    found = inspection.co_occurrence(column)
    if not found:
        return "<p>No frame has two classes.</p>"
    ordered = sorted(found.items(), key=lambda item: -sum(item[1].values()))
    holders = inspection.holders(column)
    rare = [item for item in ordered if len(item[1]) == 1 and min(len(holders[n]) for n in item[0]) > 2]
    heads = ("classes", "time", "videos")

    def _rows(items: list[tuple[tuple[int, int], dict[str, float]]]) -> Iterator[tuple[str, str, str]]:
        for pair, where in items:
            names = " + ".join(f"{swatch(number)}{escape(column.names[number])}" for number in pair)
            one = f' <span class="flag">only {escape(next(iter(where)))}</span>' if len(where) == 1 < videos else ""
            yield names + one, clock(sum(where.values())), f"{len(where)} of {videos}"

    text = table(heads, _rows(ordered[:_MOST_PAIRS]), numbers=2)
    if rare:
        text += "<p>Pairs that only one video has, of classes that several have:</p>" + table(
            heads, _rows(rare[:_MOST_PAIRS]), numbers=2
        )
    return text


def _crossed(main: LabelColumn, column: LabelColumn) -> str:
    """Return for which fraction of each class's frames the classes of a set are there."""
    shown = [number for number in range(len(column.names)) if column.values[:, number].any()]
    rows = []
    for number, name in enumerate(main.names):
        inside = (main.values == number) & column.labeled
        if not inside.any():
            continue
        fractions = column.values[inside][:, shown].mean(axis=0)
        cells = [
            f'<span class="heat" style="background:rgba(0,119,255,{0.5 * value:.2f});padding:0 .3em">{value:.0%}</span>'
            for value in fractions
        ]
        rows.append((f"{swatch(number)}{escape(name)}", *cells))
    heads = (escape(main.name), *(escape(column.names[number]) for number in shown))
    return table(heads, rows, numbers=len(shown))


# ------------------------------------------------------------------------------------------- examples


def _examples(inspection: Inspection, column: LabelColumn) -> str:
    holders = list(inspection.holders(column))
    parts = [f'<h2 id="examples">Frames of each class: {escape(column.name)}</h2>']
    for number in holders[:_MOST_CLASSES]:
        shown = [
            _figure(inspection, video, frame, number, f"{video.name} {clock(float(video.seconds[frame]))}")
            for video, frame in inspection.examples(column, number, _EXAMPLES)
        ]
        parts.append(f'<h3 class="class">{swatch(number)}{number} {escape(column.names[number])}</h3>')
        parts.append(f'<div class="examples">{"".join(shown)}</div>')
    if len(holders) > _MOST_CLASSES:
        parts.append(f"<p>{len(holders) - _MOST_CLASSES} further classes are not shown.</p>")
    return "".join(parts)
