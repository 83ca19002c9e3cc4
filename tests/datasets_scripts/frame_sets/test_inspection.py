"""The inspection of a frame set: it says what was understood, and a person finds a swapped file by it."""

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PillowImage

from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.inspection import inspect_frame_set, inspect_frames
from surgvista_hf.datasets_scripts.frame_sets.inspection_page import write_inspection
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.datasets_scripts.synthetic.surgery import PHASES, synthetic_corpus
from surgvista_hf.util.errors import InputError

OPERATIONS, SECONDS = 6, 60


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Return a folder of rendered operations as images, with a file of phases for each, in the layout of `phase_folder`."""
    root = tmp_path_factory.mktemp("recordings")
    corpus = synthetic_corpus(OPERATIONS, 3, duration_seconds=SECONDS, frames_per_second=1.0, height=64, width=96)
    (root / "phases").mkdir()
    for number, operation in enumerate(corpus):
        folder = root / "frames" / f"day{number}"
        folder.mkdir(parents=True)
        rows = ["second,phase"]
        for second in range(SECONDS):
            PillowImage.fromarray(operation.frame(float(second))).save(folder / f"{second:05d}.jpg", quality=90)
            rows.append(f"{second},{PHASES[operation.labels(second).phase]}")
        (root / "phases" / f"day{number}.csv").write_text("\n".join(rows))
    (root / "classes.txt").write_text("\n".join(PHASES))
    return root


def swapped(root, folder, first, second):
    """Return a copy of recordings in which the label files of two operations have each other's names."""
    folder.mkdir()
    (folder / "frames").symlink_to(root / "frames")
    (folder / "phases").mkdir()
    names = {first: second, second: first}
    for file in (root / "phases").iterdir():
        (folder / "phases" / f"{names.get(file.stem, file.stem)}.csv").write_text(file.read_text())
    (folder / "classes.txt").write_text((root / "classes.txt").read_text())
    return folder


def kinds(inspection):
    return {(finding.kind, finding.video) for finding in inspection.findings}


def test_swapped_label_files_are_named_and_right_ones_are_not(recordings, tmp_path):
    prepare_frame_set("phase_folder", recordings, tmp_path / "right")
    assert inspect_frame_set(tmp_path / "right").swaps == []
    wrong = swapped(recordings, tmp_path / "raw", "day1", "day4")
    prepare_frame_set("phase_folder", wrong, tmp_path / "wrong")
    inspection = inspect_frame_set(tmp_path / "wrong")
    assert [{swap.first, swap.second} for swap in inspection.swaps] == [{"day1", "day4"}]
    write_inspection(inspection, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    first = page[page.index("What to look at first") :].split("<li")[1]
    assert "day1 and day4" in first
    assert "swapped" in first


def frames_of(videos, names=("a", "b", "c"), column="phase", kind="class", step=1.0):
    """Return a frame set of gray images with one label column.

    Args:
        videos: by name, a list of (second, label).
    """
    image = PillowImage.new("RGB", (32, 24), "gray")
    feature = ClassLabel(names=list(names))
    features = Features(
        source=Value("string"),
        video_id=Value("string"),
        frame_index=Value("int32"),
        timestamp=Value("float32"),
        image=Image(),
        **{column: feature if kind == "class" else List(feature)},
    )
    rows = [
        {
            "source": "ours",
            "video_id": name,
            "frame_index": k,
            "timestamp": second * step,
            "image": image,
            column: label,
        }
        for name, labels in videos.items()
        for k, (second, label) in enumerate(labels)
    ]
    return Dataset.from_list(rows, features=features)


def usual(count=5, each=20):
    return {f"v{number}": [(k, 3 * k // each) for k in range(each)] for number in range(count)}


def test_no_file_is_called_swapped_where_colors_tell_nothing():
    generator = np.random.default_rng(0)
    for _ in range(2):
        plain = frames_of({f"v{n}": [(k, int(generator.integers(3))) for k in range(40)] for n in range(8)})
        noise = iter(generator.integers(0, 256, (len(plain), 12, 16, 3), dtype=np.uint8))
        frames = plain.map(lambda row: {**row, "image": PillowImage.fromarray(next(noise))})  # noqa: B023
        assert inspect_frames(frames).swaps == []


def test_a_frame_set_like_the_others_is_not_called_odd():
    assert inspect_frames(frames_of(usual())).findings == []


def test_a_video_much_shorter_than_the_others_is_odd():
    videos = usual() | {"short": [(k, 3 * k // 8) for k in range(8)]}
    assert kinds(inspect_frames(frames_of(videos))) == {("length", "short")}


def test_labels_that_end_early_or_begin_late_or_are_absent_are_odd():
    early = [(k, 3 * k // 12 if k < 12 else None) for k in range(20)]
    late = [(k, 3 * (k - 8) // 12 if k >= 8 else None) for k in range(20)]
    absent = [(k, None) for k in range(20)]
    found = inspect_frames(frames_of(usual() | {"early": early, "late": late, "absent": absent}))
    assert kinds(found) == {("labels", "early"), ("labels", "late"), ("labels", "absent")}
    assert any("ends 0:08 before" in finding.text for finding in found.findings)


def test_an_order_of_classes_that_only_one_video_has_is_odd():
    backwards = [(k, 2 - 3 * k // 20) for k in range(20)]
    found = inspect_frames(frames_of(usual() | {"backwards": backwards}))
    assert kinds(found) == {("order", "backwards")}
    assert "'b' before 'a'" in found.findings[0].text
    transitions = found.transitions(found.columns[0])
    assert transitions[1, 0] == {"backwards": [14.0]}
    assert len(transitions[0, 1]) == 5


def test_a_class_that_one_video_has_or_lacks_alone_is_odd():
    videos = usual() | {"lacks": [(k, 2 * (k >= 10)) for k in range(20)], "own": [*usual()["v0"], (20, 3)]}
    found = inspect_frames(frames_of(videos, names=("a", "b", "c", "<d>")))
    assert kinds(found) == {("classes", "lacks"), ("classes", "own")}


def test_a_class_that_is_tested_and_never_trained_on_is_named():
    videos = usual() | {"own": [*usual()["v0"], (20, 3)]}
    splits = dict.fromkeys(videos, "train") | {"own": "test"}
    found = inspect_frames(frames_of(videos, names=("a", "b", "c", "d")), splits=splits)
    assert [finding.text for finding in found.findings if finding.kind == "split"] == [
        "phase: no training video has 'd', but others have"
    ]


def test_gaps_are_shown_and_count_as_no_time_of_a_class(tmp_path):
    videos = {"v": [(k, 0) for k in range(10)] + [(k, 1) for k in range(100, 110)]}
    found = inspect_frames(frames_of(videos))
    assert found.table.videos[0].gaps == [(10.0, 100.0)]
    assert found.seconds_of(found.columns[0], 0) == 10
    write_inspection(found, tmp_path / "page.html")
    assert "no frames from 0:10 to 1:40" in (tmp_path / "page.html").read_text()


def test_examples_of_a_class_come_from_many_videos_and_are_always_the_same():
    found = inspect_frames(frames_of(usual(count=4, each=60)))
    chosen = [(video.name, frame) for video, frame in found.examples(found.columns[0], 1)]
    assert len(chosen) == 10
    assert {video for video, _ in chosen} == {"v0", "v1", "v2", "v3"}
    assert len(set(chosen)) == 10
    assert all(20 <= frame < 40 for _, frame in chosen)
    again = inspect_frames(frames_of(usual(count=4, each=60)))
    assert chosen == [(video.name, frame) for video, frame in again.examples(again.columns[0], 1)]
    many = inspect_frames(frames_of(usual(count=25, each=6)), compare=False)
    assert len({video.name for video, _ in many.examples(many.columns[0], 1)}) == 10


def test_a_class_with_few_frames_shows_all_of_them():
    found = inspect_frames(frames_of({"v": [(0, 0), (1, 1), (2, 1), (3, 1)]}))
    assert [frame for _, frame in found.examples(found.columns[0], 1)] == [1, 2, 3]


def test_pairs_of_classes_at_once_are_timed_by_video():
    videos = {"v0": [(0, [0, 1]), (1, [0, 1]), (2, [1])], "v1": [(0, [0]), (1, [1, 2]), (2, None)]}
    found = inspect_frames(frames_of(videos, column="tools", kind="classes"))
    assert found.co_occurrence(found.columns[0]) == {(0, 1): {"v0": 2.0}, (1, 2): {"v1": 1.0}}
    assert found.columns[0].labeled.sum() == 5
    assert found.seconds_of(found.columns[0], 1) == 4


def test_every_kind_of_column_is_on_the_page(tmp_path):
    settings = {"videos": "3", "seconds": "20", "height": "48", "width": "64"}
    prepare_frame_set(
        "synthetic", None, tmp_path / "set", settings=settings, options=PreparationOptions(short_side=32)
    )
    inspection = inspect_frame_set(tmp_path / "set")
    assert inspection.main.name == "phase"
    assert set(inspection.splits.values()) <= {"train", "validation", "test"}
    write_inspection(inspection, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for text in (*PHASES, "grasper,retract,gallbladder", "skill", "patient data", "One value for each whole video"):
        assert text in page
    assert page.count("<svg") == 3
    assert page.count("data:image/jpeg") > 30
    assert "http" not in page.replace("http-equiv", "")  # nothing is loaded from elsewhere


def test_a_page_without_images_holds_no_frame(tmp_path):
    write_inspection(inspect_frames(frames_of(usual())), tmp_path / "page.html", images=False)
    page = (tmp_path / "page.html").read_text()
    assert "data:image" not in page
    assert "<svg" in page
    assert "No frames are shown" in page


def test_a_frame_set_without_labels_has_a_page_of_its_videos(tmp_path, recordings):
    prepare_frame_set("folder", recordings / "frames", tmp_path / "set")
    inspection = inspect_frame_set(tmp_path / "set", protocol="everything")
    assert inspection.columns == []
    assert inspection.main is None
    write_inspection(inspection, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "The frame set has no labels." in page
    assert page.count("<svg") == OPERATIONS
    assert page.count("data:image/jpeg") == 10 * OPERATIONS


def test_names_are_text_and_never_html(tmp_path):
    videos = {"<script>x</script>": [(0, 0), (1, 1)]}
    write_inspection(inspect_frames(frames_of(videos, names=("<b>bold", "&"))), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;bold" in page


def test_the_verb_writes_the_page_and_says_what_is_odd(tmp_path, recordings, capsys):
    prepare_frame_set("phase_folder", recordings, tmp_path / "set")
    assert main(["inspect", str(tmp_path / "set"), "--output", str(tmp_path / "page.html"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (tmp_path / "page.html").is_file()
    assert {"kind", "video", "text"} >= set().union(*printed["findings"])


def test_a_folder_that_is_no_frame_set_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match="surgvista prepare"):
        inspect_frame_set(tmp_path)
    with pytest.raises(InputError, match="'image'"):
        inspect_frames(frames_of(usual()).remove_columns("image"))


def test_selected_rows_of_a_frame_set_keep_their_own_images():
    frames = frames_of({"v": [(k, 0) for k in range(4)]})
    colored = frames.map(
        lambda row, k: {**row, "image": PillowImage.new("RGB", (32, 24), (60 * k, 0, 0))}, with_indices=True
    )
    inspection = inspect_frames(colored.select([1, 3]))
    reds = [int(np.asarray(inspection.image_at(row).convert("RGB"))[0, 0, 0]) for row in (0, 1)]
    assert abs(reds[0] - 60) < 6
    assert abs(reds[1] - 180) < 6
