"""Own videos with labels of their own as a data set: joined recordings, patients, and what is prepared again."""

import csv
import json
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from surgvista_hf.datasets_scripts.frame_sets.draw_splits import SplitOptions, draw_splits
from surgvista_hf.datasets_scripts.frame_sets.load import load_frame_set
from surgvista_hf.datasets_scripts.frame_sets.prepare import PreparationError, prepare_frame_set
from surgvista_hf.datasets_scripts.own_labels.mapping import read_mapping
from surgvista_hf.datasets_scripts.schema.info import AnnotationError, DatasetError, MissingFilesError
from surgvista_hf.datasets_scripts.schema.media import JoinedVideo, PreparationOptions, VideoFile
from surgvista_hf.util.errors import InputError
from tests.datasets_scripts.raw_layouts import number_of, write_video


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """op1 in two files of 2.4 and 3 seconds, and op2 of 4 seconds."""
    folder = tmp_path / "recordings"
    write_video(folder / "op1-1.mp4", frames=60)
    write_video(folder / "op1-2.mp4", frames=75)
    write_video(folder / "op2.mp4")
    return folder


def prepared(recordings: Path, labels: str | Path, **settings: str):
    """Prepare, and return the phases of each video by second."""
    if isinstance(labels, str):
        path = recordings.parent / "labels.csv"
        path.write_text(labels, encoding="utf-8")
        labels = path
    out = recordings.parent / "out"
    report = prepare_frame_set("own", recordings, out, settings={"labels": str(labels), **settings})
    frames = load_frame_set("own", out, "all")
    return report, frames


def column(frames, name: str) -> dict[str, list]:
    found: dict[str, list] = {}
    names = getattr(frames.features[name], "names", None)
    for row in frames.select_columns(["video_id", name]):
        value = row[name]
        found.setdefault(row["video_id"], []).append(names[value] if names and value is not None else value)
    return found


ONE_TABLE = "video,patient,start,end,phase\nop1,7,0,3,cut\nop1,7,3,5.4,sew\nop2,8,1,3,cut\n"


def test_the_times_of_a_joined_recording_run_on(recordings):
    report, frames = prepared(recordings, ONE_TABLE)
    assert [(video.video_id, video.frames, video.seconds) for video in report.videos] == [
        ("op1", 6, 5.4),
        ("op2", 4, 4.0),
    ]
    assert column(frames, "phase") == {"op1": ["cut"] * 3 + ["sew"] * 3, "op2": [None, "cut", "cut", None]}
    op1 = frames.filter(lambda row: row["video_id"] == "op1")
    assert op1["timestamp"][:] == [0, 1, 2, 3, 4, 5]
    # Second 3 of the recording is 0.6 s into its second file.
    assert [number_of(np.asarray(image)) for image in op1["image"]] == [0, 25, 50, 15, 40, 65]


def test_labels_of_each_file_are_shifted(recordings):
    labels = recordings.parent / "files"
    labels.mkdir()
    (labels / "op1-1.csv").write_text("start,end,phase\n0,1,cut\n1,2.4,sew\n")
    (labels / "op1-2.csv").write_text("start,phase\n0,cut\n1.6,sew\n")
    (labels / "patients.csv").write_text("video,patient\nop1,7\n")  # the whole is named, too
    (labels / "op2.csv").write_text("frame,phase\n" + "".join(f"{frame},cut\n" for frame in range(1, 101)))
    _, frames = prepared(recordings, labels)
    assert column(frames, "phase")["op1"] == ["cut", "sew", "sew", "cut", "sew", "sew"]


def test_every_frame_of_a_joined_recording_comes_once(recordings):
    media = JoinedVideo([recordings / "op1-1.mp4", recordings / "op1-2.mp4"])
    assert (media.seconds, media.spans) == (5.4, [(0.0, 2.4), (2.4, 3.0)])
    everything = [frame.second for frame in media.frames(PreparationOptions(frames_per_second=None))]
    assert everything == pytest.approx([number / 25 for number in range(135)])
    half = [frame.second for frame in media.frames(PreparationOptions(frames_per_second=2.5))]
    assert half == pytest.approx([number / 2.5 for number in range(14)])
    alone = VideoFile(recordings / "op1-1.mp4")
    assert [frame.second for frame in alone.frames(PreparationOptions(frames_per_second=2.5))] == half[:6]


def test_patients_stay_together_and_a_column_may_give_the_split(tmp_path):
    rows = [("video", "patient", "split", "start", "end", "phase")]
    for number in range(10):
        write_video(tmp_path / f"videos/v{number}.mp4", frames=50)
        rows.append((f"v{number}", f"p{number // 2}", ("train", "val", "Testing")[min(number // 4, 2)], 0, 2, "cut"))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    prepare_frame_set("own", tmp_path / "videos", tmp_path / "out", settings={"labels": str(tmp_path / "labels.csv")})
    drawn = {s: set(load_frame_set("own", tmp_path / "out", s)["video_id"][:]) for s in ("train", "test")}
    patients = {split: {int(name[1:]) // 2 for name in names} for split, names in drawn.items()}
    assert (len(drawn["train"]), len(drawn["test"])) == (6, 2)
    assert not patients["train"] & patients["test"]
    given = load_frame_set("own", tmp_path / "out", "test", protocol="by_column")
    assert set(given["video_id"][:]) == {"v8", "v9"}


def test_a_split_by_a_column_that_the_labels_do_not_have_is_refused_by_that_reason(recordings):
    prepared(recordings, ONE_TABLE)
    with pytest.raises(DatasetError, match=r"the labels that .* was made from name no splits"):
        load_frame_set("own", recordings.parent / "out", "test", protocol="by_column")


def test_the_mapping_is_kept_beside_the_frame_set_and_can_be_used_again(recordings):
    prepared(recordings, ONE_TABLE)
    kept = recordings.parent / "out/mapping.yaml"
    mapping = read_mapping(kept)
    assert mapping.videos["op1"].files == ("op1-1.mp4", "op1-2.mp4")
    report, _ = prepared(recordings, ONE_TABLE, mapping=str(kept))
    assert report.resumed == 2
    edited = recordings.parent / "mine.yaml"
    edited.write_text(kept.read_text().replace("[cut, sew]", "[sew, Cutting]\n    rename: {cut: Cutting}"))
    out = recordings.parent / "edited"
    labels = recordings.parent / "labels.csv"
    prepare_frame_set("own", recordings, out, settings={"labels": str(labels), "mapping": str(edited)})
    frames = load_frame_set("own", out, "all")
    assert frames.features["phase"].names == ["sew", "Cutting"]
    assert column(frames, "phase")["op2"] == [None, "Cutting", "Cutting", None]


def test_what_changed_is_prepared_again_and_nothing_else(recordings, tmp_path):
    prepared(recordings, ONE_TABLE)
    moved = tmp_path / "elsewhere.csv"
    moved.write_text(ONE_TABLE)
    assert prepared(recordings, moved)[0].resumed == 2
    report, frames = prepared(recordings, ONE_TABLE.replace("op2,8,1,3", "op2,8,1,4"))
    assert report.resumed == 1
    assert column(frames, "phase")["op2"] == [None, "cut", "cut", "cut"]
    write_video(recordings / "op1-2.mp4", frames=50)  # the second file of op1
    report, frames = prepared(recordings, ONE_TABLE.replace("op2,8,1,3", "op2,8,1,4").replace("5.4", "4.4"))
    assert report.resumed == 1
    assert len(column(frames, "phase")["op1"]) == 5


def test_labels_that_belong_to_a_longer_video_are_refused(recordings):
    with pytest.raises(PreparationError, match="the labels go on until second 90"):
        prepared(recordings, ONE_TABLE.replace("op2,8,1,3", "op2,8,1,90"))


@pytest.mark.parametrize(
    ("labels", "error", "complaint"),
    [
        (
            ONE_TABLE + "op9,9,0,1,cut\n",
            MissingFilesError,
            r"labels\.csv:5 is about 'op9', for which .* holds no video",
        ),
        (ONE_TABLE + "op2,8,2,4,sew\n", AnnotationError, r"labels\.csv:5: 'sew' begins at 2, before 'cut' ends at 3"),
        ("video,start,end,phase\nx,0,1,cut\n", MissingFilesError, r"none of the 1 videos .* \(x\) is among the 3 in"),
        (
            "video,split,start,end,phase\nop2,all,0,1,cut\n",
            AnnotationError,
            "split of 'op2' is 'all'; it must be train",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_anything_is_written(recordings, labels, error, complaint):
    with pytest.raises(error, match=complaint):
        prepared(recordings, labels)
    assert not (recordings.parent / "out").exists()


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (("op1-2.mp4", "op1-3.mp4"), r"makes op1 of 'op1-3.mp4', which is not in .*; did you mean op1"),
        (("tiers: [phase]", "tiers: [phases]"), r"makes phase of the tier 'phases', which no .* holds; did you mean phase"),
        (("  op2: op2.mp4\n", ""), "about 'op2', which the mapping names neither in videos nor in skip_labels"),
        (("op2: op2.mp4", "op3: op2.mp4"), "gives op3 the labels of 'op3', which are in no file"),
        (("patient: patient", "patient: ward"), "makes patient of the property 'ward'"),
    ],
)  # fmt: skip
def test_a_mapping_that_does_not_fit_is_refused(recordings, edit, complaint):
    prepared(recordings, ONE_TABLE)
    text = (recordings.parent / "out/mapping.yaml").read_text()
    assert edit[0] in text
    (recordings.parent / "mine.yaml").write_text(text.replace(*edit))
    with pytest.raises((DatasetError, InputError), match=complaint):
        prepared(recordings, ONE_TABLE, mapping=str(recordings.parent / "mine.yaml"))


def test_raw_videos_load_with_their_labels_at_once(recordings, tmp_path):
    (recordings / "labels").mkdir()
    book = openpyxl.Workbook()
    book.active.append(["video", "start", "end", "phase"])
    book.active.append(["op2", 0, 4, "cut"])
    book.save(recordings / "labels/labels.xlsx")
    frames = load_frame_set("own", recordings, "all", cache_dir=tmp_path / "cache")
    assert column(frames, "phase") == {"op2": ["cut"] * 4}


def test_labels_of_cholect50_as_a_table_are_those_of_its_own_files(shared_data, tmp_path):
    """The table and the JSON files were made by others, independently of this package."""
    real = shared_data / "real/cholect50_val"
    prepare_frame_set(
        "own", real / "videos", tmp_path / "out", settings={"labels": str(real / "labels.csv")}, videos=["VID70"]
    )
    frames = load_frame_set("own", tmp_path / "out", "all").remove_columns("image")
    content = json.loads((real / "labels/VID70.json").read_text())
    names = content["categories"]
    triplets, tools = frames.features["triplets"].feature.names, frames.features["instruments"].feature.names
    checked = 0
    for row in frames:
        if (second := str(round(row["timestamp"]))) not in content["annotations"]:
            assert frames.features["labelled"].names[row["labelled"]] == "0"
            assert row["phase"] is row["triplets"] is None
            continue
        instances = content["annotations"][second]
        wanted = {names["triplet"][str(each[0])] for each in instances if each[0] >= 0}
        found = {triplets[number] for number in row["triplets"] or ()}
        phases = {names["phase"][str(each[14])] for each in instances}
        assert {frames.features["phase"].names[row["phase"]]} == phases
        if wanted:
            assert found == wanted
            assert {tools[number] for number in row["instruments"]} >= {name.split(",")[0] for name in wanted}
            checked += 1
    assert checked > 100


@pytest.mark.parametrize(("cut", "sew"), [("cut", "sew"), ("2", "0")])
def test_a_list_of_classes_beside_the_labels_gives_their_order_and_the_names_of_numbers(recordings, cut, sew):
    (recordings.parent / "classes.txt").write_text("sew\nwash\ncut\n")
    _, frames = prepared(recordings, ONE_TABLE.replace("cut", cut).replace("sew", sew))
    assert frames.features["phase"].names == ["sew", "wash", "cut"]
    assert column(frames, "phase") == {"op1": ["cut"] * 3 + ["sew"] * 3, "op2": [None, "cut", "cut", None]}


def test_a_list_of_other_classes_is_told_and_not_used(recordings, caplog):
    (recordings.parent / "classes.txt").write_text("cut\nknot\n")
    _, frames = prepared(recordings, ONE_TABLE)
    assert frames.features["phase"].names == ["cut", "sew"]
    assert "classes.txt lists classes that no column of labels has: cut, knot" in caplog.text


def test_splits_that_are_drawn_keep_the_videos_of_a_patient_together(recordings):
    prepared(recordings, ONE_TABLE)
    drawn = draw_splits("own", recordings.parent / "out", SplitOptions(hold_out="patient", validation=0))
    assert sorted(fold["test"] for fold in drawn.folds) == [("op1",), ("op2",)]
    assert "no patient is in two splits" in drawn.method


def test_videos_of_one_patient_cannot_be_divided(recordings):
    prepared(recordings, ONE_TABLE.replace("op2,8", "op2,7"))
    with pytest.raises(DatasetError, match=r"1 group|one group|2 folds"):
        draw_splits("own", recordings.parent / "out", SplitOptions(folds=2, validation=0))


def test_a_tier_in_another_case_is_the_same_column_for_all_operations(recordings):
    labels = recordings.parent / "files"
    labels.mkdir()
    (labels / "op1.csv").write_text("start,end,phase\n0,5,cut\n")
    (labels / "op2.csv").write_text("start,end,Phase\n0,3,sew\n")
    _, frames = prepared(recordings, labels)
    assert column(frames, "phase") == {"op1": ["cut"] * 5 + [None], "op2": ["sew"] * 3 + [None]}
    assert "phase_2" not in frames.features
    text = (recordings.parent / "out/mapping.yaml").read_text()
    (recordings.parent / "mine.yaml").write_text(text.replace("[phase]", "[PHASE, Phase]"))
    _, again = prepared(recordings, labels, mapping=str(recordings.parent / "mine.yaml"))
    assert column(again, "phase") == column(frames, "phase")


def test_a_mapping_and_labels_find_files_of_another_computer_with_accents(recordings):
    (recordings / "op2.mp4").rename(recordings / "M\u00fcller.mp4".replace("\u00fc", "u\u0308"))
    report, _ = prepared(recordings, ONE_TABLE.replace("op2", "M\u00fcller"))
    assert {video.video_id for video in report.videos} == {"op1", "M\u00fcller"}
    text = (recordings.parent / "out/mapping.yaml").read_text(encoding="utf-8")
    (recordings.parent / "mine.yaml").write_text(text.replace("u\u0308", "\u00fc"), encoding="utf-8")
    report, _ = prepared(
        recordings, ONE_TABLE.replace("op2", "Mu\u0308ller"), mapping=str(recordings.parent / "mine.yaml")
    )
    assert report.resumed == 2


def test_numbered_files_with_labels_of_their_own_are_videos_of_their_own(recordings):
    table = "video,patient,start,end,phase\nop1-1,7,0,2,cut\nop1-2,8,0,3,sew\n"
    report, frames = prepared(recordings, table)
    assert [video.video_id for video in report.videos] == ["op1-1", "op1-2"]
    assert column(frames, "phase") == {"op1-1": ["cut", "cut", None], "op1-2": ["sew"] * 3}


def test_a_tier_with_one_value_in_each_video_names_the_patient(recordings):
    table = ONE_TABLE.replace("video,patient", "video,Pat. no.")
    prepared(recordings, table)
    assert "patient: patient" in (recordings.parent / "out/mapping.yaml").read_text()
    drawn = draw_splits("own", recordings.parent / "out", SplitOptions(hold_out="patient", validation=0))
    assert sorted(fold["test"] for fold in drawn.folds) == [("op1",), ("op2",)]
    # A name that does not say itself what it is can be given.
    text = (recordings.parent / "out/mapping.yaml").read_text()
    (recordings.parent / "mine.yaml").write_text(text.replace("patient: patient", "patient: Akte"))
    table = table.replace("Pat. no.", "Akte")
    report, _ = prepared(recordings, table, mapping=str(recordings.parent / "mine.yaml"))
    assert report.resumed == 2
    with pytest.raises(
        AnnotationError, match=r"labels.csv:3 holds '9' for Akte of 'op1', and .*labels.csv:2 holds '7'"
    ):
        prepared(recordings, table.replace("op1,7,3", "op1,9,3"), mapping=str(recordings.parent / "mine.yaml"))


def test_a_list_of_classes_leaves_other_columns_of_numbers_alone(recordings):
    (recordings.parent / "classes.txt").write_text("sew\nwash\ncut\n")
    table = "video,start,end,phase,blood\nop1,0,3,2,0\nop1,3,5.4,0,2\nop2,1,3,2,1\n"
    _, frames = prepared(recordings, table)
    assert frames.features["phase"].names == ["sew", "wash", "cut"]
    assert frames.features["blood"].names == ["0", "1", "2"]


def test_the_classes_of_whole_clips_hold_for_all_frames(recordings):
    _, frames = prepared(recordings, "video,label\nop1,chole\nop2,hernia\n")
    assert column(frames, "label") == {"op1": ["chole"] * 6, "op2": ["hernia"] * 4}


def test_a_folder_of_videos_of_hugging_face_is_taken_as_it_is(tmp_path):
    for name in ("train/chole/a", "train/hernia/b", "test/chole/c"):
        write_video(tmp_path / f"clips/{name}.mp4", frames=50)
    prepare_frame_set("own", tmp_path / "clips", tmp_path / "out")
    frames = load_frame_set("own", tmp_path / "out", "test", protocol="by_column")
    assert column(frames, "label") == {"test/chole/c": ["chole"] * 2}


def test_one_file_in_two_videos_is_refused(recordings):
    prepared(recordings, ONE_TABLE)
    text = (recordings.parent / "out/mapping.yaml").read_text()
    (recordings.parent / "mine.yaml").write_text(text.replace("op2: op2.mp4", "op2: op1-2.mp4"))
    with pytest.raises(InputError, match=r"videos\.op2 has the file 'op1-2.mp4', which videos\.op1 has already"):
        prepared(recordings, ONE_TABLE, mapping=str(recordings.parent / "mine.yaml"))
