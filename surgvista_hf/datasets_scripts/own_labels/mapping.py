"""From labels as files hold them to columns of a frame set: a mapping that is derived, shown, and may be edited.

A mapping says which tiers become which column, the classes and their order, which labels are renamed, merged or dropped, what
means "no label", and which files a video consists of. It is written as YAML:

```yaml
columns:
  phase:
    kind: class                      # class | classes | numbers
    task: workflow
    tiers: [Phase]
    classes: [preparation, dissection, closing]
    rename: {prep: preparation}
    drop: [pause]
videos:
  op1: {files: [op1-1.mp4, op1-2.mp4], labels: [op1]}
groups: {patient: Patient}
```
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Literal

import yaml

from ...util.errors import InputError
from ...util.messages import did_you_mean, preview
from ...util.values import read_fields
from ..schema.info import AnnotationError, Label, Task
from ..schema.text_yaml import load_text_yaml
from .model import VideoLabels
from .phase_files import UNLABELED

Kind = Literal["class", "classes", "numbers"]
Gaps = Literal["unlabeled", "none"]
Overlaps = Literal["error", "inner"]

_PRESENT = frozenset("1 x yes true y present ja oui si".split())
_ABSENT = frozenset("0 no false n absent nein non".split())
# Names of tiers of things that may be seen together, and of tiers of which several labels may hold at once.
_SEEN = frozenset(
    "tool tools instrument instruments triplet triplets verb verbs target targets anatomy structure structures finding "
    "findings".split()
)
_MULTIPLE = _SEEN | frozenset("action actions event events behavior behaviors".split())
_INSTRUMENTS = frozenset(
    "grasper bipolar hook scissors clipper irrigator specimenbag bag stapler needle driver forceps trocar suction knife tool "
    "tools instrument cautery monopolar dissector retractor drill sponge cannula scope applier".split()
)
_WORKFLOW = ("phase", "step", "label", "category", "task", "activity", "etape", "schritt", "workflow")
_CRITERION = re.compile(r"^(?:c|cvs|criterion|criteria|crit)[\s_-]*\d+$", re.IGNORECASE)
_GROUPS = {
    "patient": "patient patientid patientno patientnr patno patnr patid patientennummer patientnummer subject "
    "subjectid".split(),
    "hospital": "hospital hospitalid center centre centerid site clinic klinik institution".split(),
    "split": "split subset partition".split(),
}
_VIDEO_PROPERTIES = ("skill", "grade", "score", "level", "outcome", "procedure", "expertise", "difficulty")
# Names that the columns of published data sets have, for tiers in the other number.
_USUAL_COLUMNS = {"phases": "phase", "steps": "step"} | {
    name: f"{name}s" for name in ("triplet", "instrument", "verb", "target", "tool", "action")
}
# Names of the class of a whole video or clip, as folders and tables of clips have it.
_VIDEO_CLASSES = frozenset(
    "label labels class classes category categories phase phases step steps action actions activity activities klasse".split()
)
_MEASURES = frozenset("width height fps size duration length confidence probability".split())
_MOST_CLASSES = 300
_FREE_TEXTS = 60  # values above which a tier that hardly repeats any is free text
# Parts of names of what is about a person, or written freely, and so may name a person.
_PERSONAL = frozenset(
    "note notes notiz notizen remark remarks remarque remarques kommentar kommentare comment comments commentaire bemerkung "
    "bemerkungen anmerkung anmerkungen age alter vorname nachname firstname lastname surname birth birthday birthdate "
    "geburtsdatum geburtstag dob freitext".split()
)
_RESERVED = ("source", "video_id", "frame_index", "timestamp", "image")


@dataclass(frozen=True)
class ColumnMapping:
    """The way to one label column of the frame set.

    Args:
        kind: one class per frame, a set of classes, or a list of numbers.
        task: task that the column is used for.
        tiers: tiers of the label files that it is made from.
        properties: properties of whole videos that it is made from, instead of tiers; several for numbers only.
        presence: `True` if each tier is about one class, and its labels only say whether that is present.
        classes: names of the classes in the order of their numbers; names of the numbers, for each tier or property.
        rename: class of labels that have another name. Two labels of one class are merged.
        drop: labels that are left out, as if there were none.
        no_label: labels that mean that there is none, in lower case.
        gaps: times that no span covers have no label (`unlabeled`), or none of the classes (`none`).
        separator: character between several labels in one cell.
        overlaps: intervals of one class that overlap are an error, or the `inner` one counts: the shortest of those that hold,
            as if it interrupted the others.
    """

    kind: Kind
    task: Task = "workflow"
    tiers: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    presence: bool = False
    classes: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    no_label: tuple[str, ...] = ("", "-1", "nan", "na", "n/a", "null", "unlabeled", "unlabelled", "no label")
    gaps: Gaps = "unlabeled"
    separator: str = ""
    overlaps: Overlaps = "error"

    @property
    def label(self) -> Label:
        """Return the label column that the frame set gets."""
        return Label(self.kind, self.classes)


@dataclass(frozen=True)
class VideoMapping:
    """The files and the labels of one video.

    Args:
        files: video files below the folder of the videos, in the order of time; a folder of frames ends with `/`.
        labels: names of the video in the label files; by default its id.
    """

    files: tuple[str, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelMapping:
    """The way from the labels of one's own videos to a frame set.

    Args:
        columns: label columns; the first one decides whether a frame counts as labeled.
        videos: videos by their id.
        groups: names of the properties that say `patient`, `hospital` and `split`, or of tiers with one value in each video.
        first_frame: number of the first frame, where labels count frames.
        skip_labels: names of videos in the label files that are left out.
        unused: tiers and properties that become no column; only for the reader.
    """

    columns: Mapping[str, ColumnMapping]
    videos: Mapping[str, VideoMapping]
    groups: Mapping[str, str] = field(default_factory=dict)
    first_frame: int = 0
    skip_labels: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, Label]:
        """Return the label columns of the frame set, those of the components of triplets included."""
        labels = {name: column.label for name, column in self.columns.items()}
        for column in self.columns.values():
            for part, names in component_classes(column).items():
                labels.setdefault(part, Label("classes", names))
        return labels

    def to_yaml(self) -> str:
        """Return the text of the mapping file, which users read and edit."""
        content = {
            "columns": {name: _given(column) for name, column in self.columns.items()},
            "videos": {name: _short(name, video) for name, video in self.videos.items()},
            **{name: value for name, value in _given(self).items() if name not in ("columns", "videos")},
        }
        return _HEAD + yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


_HEAD = """# What the labels mean. Edit it and pass it with --mapping.
# columns: the order of `classes` is the order of their numbers. `rename` gives a label the name of a class, also to merge
#   several; `drop` leaves labels out. kind: class | classes | numbers. gaps: unlabeled | none (of the classes).
# videos: files are joined in this order. Names of videos in the labels that are to be left out stand in `skip_labels`.
"""


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line, and mappings with one key a line."""

    def ignore_aliases(self, data: object) -> bool:
        """Write equal lists twice, and not as references that nobody would understand."""
        return True


_Dumper.add_representer(
    tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", list(value), flow_style=True)
)


def _given(entry: ColumnMapping | LabelMapping) -> dict[str, object]:
    """Return the fields that differ from their defaults, and the kind."""
    usual = ColumnMapping("class") if isinstance(entry, ColumnMapping) else LabelMapping({}, {})
    names = [each.name for each in fields(entry)]
    values = {name: getattr(entry, name) for name in names}
    always = ("kind", "task")
    chosen = {name: value for name, value in values.items() if name in always or value != getattr(usual, name)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in chosen.items()}


def _short(name: str, video: VideoMapping) -> object:
    """Return a video as its file alone, where its id is the name of its labels."""
    if len(video.files) == 1 and video.labels in ((), (name,)):
        return video.files[0]
    return {"files": video.files, **({} if video.labels in ((), (name,)) else {"labels": video.labels})}


def read_mapping(path: Path) -> LabelMapping:
    """Read a mapping file.

    Args:
        path: YAML file as `LabelMapping.to_yaml` writes it. `videos` may be left out and is empty then.

    Raises:
        InputError: it cannot be read, or a key or value is unknown; the message names it.
    """
    try:
        content = load_text_yaml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"the mapping {path} cannot be read: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"the mapping {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("columns"), dict) or not content["columns"]:
        raise InputError(f"the mapping {path} has no columns; --propose FILE writes a mapping to begin with")
    known = [each.name for each in fields(LabelMapping)]
    for key in content:
        if key not in known:
            raise InputError(
                f"the mapping {path} has no key {key!r}; {did_you_mean(key, known, f'it may have {known}')}"
            )
    where = f"{path}: "
    columns = {name: _read_column(f"{where}columns.{name}", entry) for name, entry in content["columns"].items()}
    videos = {
        name: _read_video(f"{where}videos.{name}", entry) for name, entry in (content.get("videos") or {}).items()
    }
    _check_files(where, videos)
    rest = {key: content[key] for key in ("groups", "skip_labels", "unused") if content.get(key)}
    read = read_fields(_Rest, str(path), rest)
    _check_columns(path, columns)
    _check_skipped(where, videos, read.skip_labels)
    if content.get("first_frame", "0") not in ("0", "1"):
        raise InputError(f"{where}first_frame is {content['first_frame']!r}; it must be 0 or 1")
    for key in read.groups:
        if key not in _GROUPS:
            raise InputError(f"{where}groups has no {key!r}; it may have {', '.join(_GROUPS)}")
    first = int(content.get("first_frame", "0"))
    return LabelMapping(columns, videos, read.groups, first, read.skip_labels, read.unused)


@dataclass(frozen=True)
class _Rest:
    """The plain part of a mapping file."""

    groups: Mapping[str, str] = field(default_factory=dict)
    skip_labels: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def _read_column(where: str, entry: object) -> ColumnMapping:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {entry!r}; it must be a mapping with kind, classes and tiers or properties")
    content: dict[str, object] = dict(entry)
    if content.get("presence") in ("true", "false", "True", "False"):
        content["presence"] = str(content["presence"]).lower() == "true"
    column: ColumnMapping = read_fields(
        ColumnMapping, where, {key: value for key, value in content.items() if value != ""}
    )
    if bool(column.tiers) == bool(column.properties):
        raise InputError(f"{where} must name either tiers or properties of the labels")
    if len(set(column.classes)) < len(column.classes) or not column.classes:
        raise InputError(f"{where}.classes must name each class once")
    sources = (*column.tiers, *column.properties)
    if column.kind == "numbers" and len(column.classes) != len(sources):
        raise InputError(f"{where} has {len(sources)} numbers and {len(column.classes)} names for them")
    for label, name in column.rename.items():
        if name not in column.classes:
            hint = did_you_mean(name, column.classes, f"classes are {preview(column.classes)}")
            raise InputError(f"{where}.rename makes {label!r} {name!r}, which is no class; {hint}")
    return column


def _read_video(where: str, entry: object) -> VideoMapping:
    if isinstance(entry, str) and entry:
        return VideoMapping((entry,))
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {entry!r}; it must be a file, or a mapping with files and labels")
    video: VideoMapping = read_fields(VideoMapping, where, entry)
    if not video.files:
        raise InputError(f"{where} names no files")
    return video


def _check_files(where: str, videos: Mapping[str, VideoMapping]) -> None:
    """Check that no file is part of two videos, or twice of one: the same frames would be counted twice."""
    owner: dict[str, str] = {}
    for name, video in videos.items():
        for file in video.files:
            if file in owner:
                raise InputError(
                    f"{where}videos.{name} has the file {file!r}, which videos.{owner[file]} has already; each file belongs "
                    "to one video, once"
                )
            owner[file] = name


def _check_skipped(where: str, videos: Mapping[str, VideoMapping], skipped: Iterable[str]) -> None:
    for name, video in videos.items():
        for label in video.labels or (name,):
            if label in skipped:
                raise InputError(
                    f"{where}skip_labels leaves out the labels of {label!r}, which videos.{name} uses; remove it "
                    "from one of them"
                )


def _check_columns(path: Path, columns: Mapping[str, ColumnMapping]) -> None:
    for name in columns:
        if name in _RESERVED or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise InputError(
                f"{path}: a column cannot be called {name!r}; choose letters, digits and _ and none of {', '.join(_RESERVED)}"
            )


# ------------------------------------------------------------------------------------------- deriving


@dataclass
class _Tier:
    """The labels of a tier in all videos.

    Args:
        name: name of the tier.
        values: number of spans with each label, in the order in which they first appear.
        overlaps: whether spans with different labels overlap in a video.
        pauses: whether there is time without a span between two of a video.
        lanes: names of the tiers that hold them, where tools put overlapping spans on `tool` and `tool 2`.
    """

    name: str
    values: dict[str, int] = field(default_factory=dict)
    overlaps: bool = False
    pauses: bool = False
    lanes: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """Return the labels without those that mean that there is none."""
        return [value for value in self.values if value.lower() not in UNLABELED]

    @property
    def is_presence(self) -> bool:
        """Return whether the labels only say whether something is there."""
        if not self.labels:
            return bool(self.values)  # intervals without a text on a tier of their own
        own = self.name.lower()
        found = {value.lower() for value in self.labels}
        return not _is_workflow(self.name) and (found <= _PRESENT | _ABSENT or found == {own})

    @property
    def says_absent(self) -> bool:
        """Return whether some labels say that it is absent."""
        return any(value.lower() in _ABSENT for value in self.labels)


def derive_mapping(labels: Sequence[VideoLabels], videos: Mapping[str, VideoMapping]) -> LabelMapping:
    """Derive what labels mean, as far as they tell.

    A tier of spans that do not overlap is one class per frame. Several tiers that only say whether something is there, cells
    with several labels, and overlapping spans of instruments or actions are sets of classes. Numbers with decimals and
    numbered criteria are numbers. Classes are in the order of their first appearance, or of their numbers.

    Args:
        labels: labels of all videos.
        videos: files of each video.

    Returns:
        The mapping.

    Raises:
        AnnotationError: nothing in the labels can become a column.

    Example:
        >>> from surgvista_hf.datasets_scripts.own_labels.model import LabeledSpan, LabelTier
        >>> spans = (LabeledSpan(0, 5, "cut", "op1.csv:2"), LabeledSpan(5, 9, "sew", "op1.csv:3"))
        >>> mapping = derive_mapping([VideoLabels("op1", (LabelTier("Phase", spans),))], {})
        >>> mapping.columns["phase"].kind, mapping.columns["phase"].classes
        ('class', ('cut', 'sew'))
    """
    groups = group_names(labels)
    tiers = [tier for tier in _tiers(labels) if tier.name not in groups.values()]
    presence = [tier for tier in tiers if tier.is_presence and not _is_personal(tier.name)]
    columns: dict[str, ColumnMapping] = {}
    unused = []
    # A tier `name` holds the names of phases only if nothing else does.
    alone = all(_plain_word(tier.name) == "name" or not _is_workflow(tier.name) for tier in tiers)
    for tier in tiers:
        if tier in presence:
            continue
        is_left = (
            _is_measure(tier.name, tiers)
            or _is_personal(tier.name)
            or (_plain_word(tier.name) == "name" and not alone)
        )
        column = None if is_left else _tier_column(tier)
        if column is None:
            unused.append(tier.name)
        else:
            columns[_column_name(tier.name, columns)] = column
    columns |= {_column_name(name, columns): column for name, column in _presence_columns(presence)}
    properties, left = _property_columns(labels, groups.values())
    columns |= {_column_name(name, columns): column for name, column in properties.items()}
    if not columns:
        names = ", ".join((*unused, *left, *groups.values())) or "none"
        raise AnnotationError(f"the labels hold nothing that could be a column of labels (found are {names})")
    order = sorted(columns, key=lambda name: _rank(columns[name]))
    ordered = {name: columns[name] for name in order}
    return LabelMapping(ordered, videos, groups, _first_frame(labels), unused=(*unused, *left))


def _rank(column: ColumnMapping) -> int:
    """Return the rank of a column: phases and steps come first, since the first column says which frames are labeled."""
    if column.kind == "class" and any(_is_workflow(tier) for tier in column.tiers):
        return 0
    return 2 if column.properties else 1


def _tiers(labels: Iterable[VideoLabels]) -> list[_Tier]:
    labels = list(labels)
    names = {tier.name for video in labels for tier in video.tiers}
    found: dict[str, _Tier] = {}
    for video in labels:
        for tier in video.tiers:
            name = _without_lane(tier.name, names)
            entry = found.setdefault(name, _Tier(name))
            entry.overlaps |= name != tier.name
            entry.lanes += [tier.name] if tier.name not in entry.lanes else []
            for span in tier.spans:
                entry.values[span.value] = entry.values.get(span.value, 0) + 1
            filled = sorted((span for span in tier.spans if span.value), key=lambda span: span.start)
            early = 1e-3 * (tier.rate or 1)
            entry.pauses |= any(after.start > before.stop + early for before, after in pairwise(filled))
            entry.overlaps |= any(
                after.start < before.stop - early and after.value != before.value for before, after in pairwise(filled)
            )
    return list(found.values())


def _without_lane(name: str, names: Iterable[str]) -> str:
    """Return the name of the first lane of instruments or actions for `tool 2`, if there is a tier `tool`."""
    base, _, number = name.rpartition(" ")
    return base if number.isdigit() and int(number) > 1 and base in names and _name_parts(base) & _MULTIPLE else name


def _tier_column(tier: _Tier) -> ColumnMapping | None:
    """Return the column of one tier; `None` if it is more likely a remark or a measurement."""
    labels = tier.labels
    parts = _name_parts(tier.name)
    # `0,5` is a number with a decimal comma, except where several tools may be listed by their numbers.
    separator = "" if _are_measurements(labels) and not parts & _MULTIPLE else _separator(tier)
    if separator:
        labels = list(
            dict.fromkeys(part.strip() for label in labels for part in label.split(separator) if part.strip())
        )
    if not labels or (len(labels) > _MOST_CLASSES and len(labels) > sum(tier.values.values()) / 10):
        return None
    if not separator and _is_free_text(labels, sum(tier.values.values())) and not _are_measurements(labels):
        return None
    if _are_measurements(labels) and not _is_workflow(tier.name):  # step 1.2 is a name
        return ColumnMapping("numbers", "skill", (tier.name,), classes=(tier.name,))
    classes = _ordered(labels)
    multi_label = bool(parts & _SEEN) or (tier.overlaps and bool(parts & _MULTIPLE))
    kind: Kind = "classes" if separator or multi_label or _are_triplets(labels) else "class"
    # Somebody who marks where an instrument is says that it is absent elsewhere; a row for each second says so itself.
    marked = tier.overlaps or (tier.pauses and all(tier.values))
    gaps: Gaps = "none" if multi_label and marked and not separator else "unlabeled"
    return ColumnMapping(
        kind, _task(tier.name, labels), tuple(tier.lanes), classes=classes, gaps=gaps, separator=separator,
        no_label=_no_label(tier.values),
    )  # fmt: skip


def _plain_word(name: str) -> str:
    return name.strip().lower()


def _is_personal(name: str) -> bool:
    """Return whether what is called so is about a person or written freely, and may hold what nobody should publish."""
    parts = _name_parts(name)
    whose = parts & {"patient", "patients", "patienten", "surgeon", "chirurg", "operateur"}
    return bool(parts & _PERSONAL) or bool(whose and parts & {"name", "names"}) or _group_of(name) == "patient"


def _is_free_text(labels: Sequence[str], count: int) -> bool:
    """Return whether labels are too many to be classes, and hardly one of the `count` values comes twice."""
    return len(labels) > _FREE_TEXTS and len(labels) > 0.8 * count


def _is_measure(name: str, tiers: Sequence[_Tier]) -> bool:
    """Return whether a tier says the size of the frames, or only gives the number of what another tier names."""
    names = {tier.name.lower() for tier in tiers}
    base = re.sub(r"[\s_-]*id$", "", name.lower())
    return bool(_name_parts(name) & _MEASURES) or (base != name.lower() and base in names)


def _separator(tier: _Tier) -> str:
    """Return the character between several labels of one cell; empty if cells hold one each."""
    for mark in "|;":
        if any(mark in label for label in tier.labels):
            return mark
    joined = [label for label in tier.labels if "," in label]
    if not joined or _are_triplets(tier.labels):
        return ""
    parts = {part.strip() for label in tier.labels for part in label.split(",")}
    return "," if len(parts) < len(tier.labels) or _name_parts(tier.name) & _MULTIPLE else ""


def _are_triplets(labels: Sequence[str]) -> bool:
    return bool(labels) and all(label.count(",") == 2 and ", " not in label for label in labels)


def _are_measurements(labels: Sequence[str]) -> bool:
    """Return whether all labels are numbers, and some have decimals."""
    numbers = [re.fullmatch(r"[-+]?\d+([.,]\d+)?", label) for label in labels]
    return all(numbers) and any(number and number[1] for number in numbers)


def _presence_columns(tiers: Sequence[_Tier]) -> Iterator[tuple[str, ColumnMapping]]:
    """Yield the columns of tiers that say whether something is there: criteria, a set of classes, or one alone."""
    criteria = [tier for tier in tiers if _CRITERION.match(tier.name)]
    others = [tier for tier in tiers if tier not in criteria]
    if criteria:
        names = tuple(tier.name for tier in criteria)
        yield "cvs", ColumnMapping("numbers", "safety", names, presence=True, classes=names)
    if len(others) == 1:
        (tier,) = others
        gaps: Gaps = "unlabeled" if tier.says_absent else "none"
        yield (
            tier.name,
            ColumnMapping("class", "finding", (tier.name,), presence=True, classes=("no", "yes"), gaps=gaps),
        )
    elif others:
        names = tuple(tier.name for tier in others)
        name = "instruments" if any(_name_parts(each) & _INSTRUMENTS for each in names) else "findings"
        gaps = "unlabeled" if all(tier.says_absent for tier in others) else "none"
        yield name, ColumnMapping("classes", "finding", names, presence=True, classes=names, gaps=gaps)


def group_names(labels: Sequence[VideoLabels]) -> dict[str, str]:
    """Return the names in labels that say the `patient`, the `hospital` and the `split`.

    They are names of properties; the patient may also be a tier with one value in each video.
    """
    groups: dict[str, str] = {}
    for name in dict.fromkeys(name for video in labels for name, value in video.properties.items() if value):
        if group := _group_of(name):
            groups.setdefault(group, name)
    for name in dict.fromkeys(tier.name for video in labels for tier in video.tiers):
        # A tier `site` is rather about where something is than about the hospital.
        if _group_of(name) == "patient" and all(len(_values(video, name)) < 2 for video in labels):
            groups.setdefault("patient", name)
    return groups


def _group_of(name: str) -> str | None:
    letters = "".join(re.findall("[a-z]+", name.lower()))
    return next((group for group, known in _GROUPS.items() if letters in known), None)


def group_value(labels: VideoLabels, name: str) -> str:
    """Return the patient, the hospital or the split of a video; empty if the labels do not say it.

    Args:
        labels: labels of the video.
        name: name of the property or tier.

    Raises:
        AnnotationError: a tier has several values in the video.
    """
    if value := labels.properties.get(name, ""):
        return value
    found = _values(labels, name)
    if len(found) > 1:
        (first, where), (second, other) = list(found.items())[:2]
        raise AnnotationError(
            f"{other} holds {second!r} for {name} of {labels.video!r}, and {where} holds {first!r}; a video has one"
        )
    return next(iter(found), "")


def _values(labels: VideoLabels, name: str) -> dict[str, str]:
    """Return the values of a tier with the place of the first of each."""
    found: dict[str, str] = {}
    for tier in labels.tiers:
        for span in tier.spans if tier.name == name else ():
            if span.value.lower() not in UNLABELED:
                found.setdefault(span.value, span.where)
    return found


def _property_columns(
    labels: Sequence[VideoLabels], groups: Collection[str]
) -> tuple[dict[str, ColumnMapping], list[str]]:
    """Return the columns of properties of whole videos, and the names of the properties that become none."""
    values: dict[str, dict[str, None]] = {}
    counts: Counter[str] = Counter()
    for video in labels:
        for name, value in video.properties.items():
            if value:
                values.setdefault(name, {})[value] = None
                counts[name] += 1
    criteria = tuple(name for name in values if _CRITERION.match(name))
    columns: dict[str, ColumnMapping] = {}
    left = []
    for name, found in values.items():
        if name in groups or name in criteria:
            continue
        labels_found = [value for value in found if value.lower() not in UNLABELED]
        whole = name.strip().lower() in _VIDEO_CLASSES
        is_free = _is_personal(name) or _is_free_text(labels_found, counts[name])
        if not labels_found or is_free or not (whole or _name_parts(name) & set(_VIDEO_PROPERTIES)):
            left.append(name)
        elif whole and (_is_workflow(name) or not _are_measurements(labels_found)):
            columns[name] = ColumnMapping(
                "class", _task(name, labels_found), properties=(name,), classes=_ordered(labels_found)
            )
        elif _are_measurements(labels_found):
            columns[name] = ColumnMapping("numbers", "skill", properties=(name,), classes=(name,))
        else:
            task: Task = "procedure" if "procedure" in _name_parts(name) else "skill"
            columns[name] = ColumnMapping("class", task, properties=(name,), classes=_ordered(labels_found))
    if criteria:
        columns["cvs"] = ColumnMapping("numbers", "safety", properties=criteria, classes=criteria)
    return columns, left


def _ordered(labels: Sequence[str]) -> tuple[str, ...]:
    """Return labels in their order, or by their number if they are numbers."""
    if all(re.fullmatch(r"\d+([.,]\d+)*", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: [int(part) for part in re.split("[.,]", label)]))
    return tuple(labels)


def _no_label(values: Iterable[str]) -> tuple[str, ...]:
    """Return what means "no label": the usual words, and those that are found."""
    usual = ColumnMapping("class").no_label
    return (*usual, *sorted({value.lower() for value in values if value.lower() in UNLABELED} - set(usual)))


def _name_parts(name: str) -> set[str]:
    return set(re.findall("[a-z]+", name.lower()))


def _is_workflow(name: str) -> bool:
    return any(word.startswith(_WORKFLOW) for word in _name_parts(name))


def _task(name: str, labels: Sequence[str]) -> Task:
    parts = _name_parts(name)
    if _are_triplets(labels):
        return "triplet"
    if parts & {"action", "actions", "verb", "verbs", "gesture", "gestures"}:
        return "action"
    if parts & {"skill", "grade"}:
        return "skill"
    return "finding" if parts & _MULTIPLE else "workflow"


def _column_name(name: str, taken: Iterable[str]) -> str:
    """Return the name of the column of a tier: letters, digits and `_`, in lower case."""
    text = re.sub(r"\W+", "_", name.lower()).strip("_") or "label"
    text = _USUAL_COLUMNS.get(text, text)
    if text[0].isdigit() or text in _RESERVED:
        text = f"label_{text}"
    taken = set(taken)
    return next(each for each in (text, *(f"{text}_{number}" for number in range(2, 10**6))) if each not in taken)


def _first_frame(labels: Iterable[VideoLabels]) -> int:
    """Return 1 if the labels of every video that counts frames begin with frame 1, otherwise 0."""
    first = [
        min(span.start for tier in counted for span in tier.spans)
        for video in labels
        if (counted := [tier for tier in video.tiers if tier.rate is None and tier.spans])
    ]
    return int(bool(first) and all(number == 1 for number in first))


def component_classes(column: ColumnMapping) -> dict[str, tuple[str, ...]]:
    """Return the instruments, verbs and targets of a column of triplets; empty for other columns."""
    if column.task != "triplet" or column.kind != "classes" or not _are_triplets(column.classes):
        return {}
    parts = [name.split(",") for name in column.classes]
    return {
        name: tuple(dict.fromkeys(part[number] for part in parts if part[number]))
        for number, name in enumerate(("instruments", "verbs", "targets"))
    }
