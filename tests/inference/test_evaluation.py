"""Testing what exists: the same numbers as training reports, from a model or from files."""

import csv
import json
import shutil

import numpy as np
import pytest

from surgvista_hf import load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.overlap import OverlapError
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.training_videos import check_unseen
from surgvista_hf.datasets_scripts.schema.split_files import read_split_file
from surgvista_hf.evaluation.tasks import ClipPredictions

MODEL = (
    "{model_type: surgvista, image_size: 32, patch_size: 16, num_frames: 2, hidden_size: 32, num_hidden_layers: 1, "
)
MODEL += "num_attention_heads: 2}"
SIZES = {"videos": "6", "seconds": "14", "height": "48", "width": "64"}


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """Frame sets of two hospitals, and a model that was trained in the first and tested in the second."""
    folder = tmp_path_factory.mktemp("hospitals")
    for name, seed in (("here", "0"), ("there", "50")):
        prepare_frame_set("synthetic", None, folder / name, settings={**SIZES, "seed": seed})
    changes = [
        f"model.config={MODEL}",
        f"data.root={folder}",
        "data.data_dir=here",
        "data.frame_stride=2",
        "data.test_on={name: synthetic, data_dir: there, split: all}",
        f"training.output_dir={folder / 'run'}",
        "training.use_cpu=true",
        "training.disable_tqdm=true",
        "training.num_train_epochs=1",
        "training.warmup_epochs=0",
    ]
    assert main(["finetune", "synthetic", *changes]) == 0
    return folder


def read(path):
    return json.loads(path.read_text())


def test_a_model_is_tested_where_it_was_not_trained(hospitals):
    """All six operations of the other hospital, none of the own."""
    predictions = ClipPredictions.load(hospitals / "run/predictions.parquet")
    assert len(set(predictions.videos)) == 6
    assert read(hospitals / "run/results.json")["recipe"]["data"]["test_on"]["data_dir"] == "there"
    assert "of another frame set" in (hospitals / "run/model/README.md").read_text()


def test_the_same_videos_under_another_name_are_no_other_hospital(hospitals, tmp_path, capsys):
    shutil.copytree(hospitals / "here", hospitals / "copy", dirs_exist_ok=True)
    words = [
        "finetune",
        "synthetic",
        f"model.config={MODEL}",
        f"data.root={hospitals}",
        "data.data_dir=here",
        "--check",
    ]
    other = "data.test_on={name: synthetic, data_dir: copy}"
    assert main([*words, other, f"training.output_dir={tmp_path}", "training.use_cpu=true"]) == 1
    assert "6 videos of" in capsys.readouterr().err


def test_evaluate_says_of_a_finished_model_what_training_said(hospitals, capsys):
    words = ["evaluate", str(hospitals / "run/model"), "--data", f"synthetic={hospitals / 'there'}", "--split", "all"]
    assert main([*words, "--output", str(hospitals / "tested"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    trained = read(hospitals / "run/results.json")
    assert said["metrics"] == pytest.approx(trained["metrics"], abs=1e-6)
    assert said["by_video"] == pytest.approx(trained["by_video"])
    assert read(hospitals / "tested/results.json")["metrics"] == said["metrics"]
    assert (hospitals / "tested/tables.md").read_text().startswith("#")
    assert list((hospitals / "tested/plots").glob("*confusion*.png"))


@pytest.mark.filterwarnings("always::surgvista_hf.datasets_scripts.frame_sets.overlap.OverlapWarning")
def test_a_model_is_not_tested_on_its_training_videos_unnoticed(hospitals, tmp_path, capsys):
    """Neither on the frame set itself, nor on one with other names and other labels of the same frames."""
    record = read(hospitals / "run/model/training_videos.json")
    assert (len(record["trained"]["frames"]), len(record["validation"]["frames"])) == (3, 1)
    assert "operation_0" not in json.dumps(record)
    words = ["evaluate", str(hospitals / "run/model"), "--data", f"synthetic={hospitals / 'here'}"]
    assert main([*words, "--json"]) == 0  # the test of its own protocol
    assert main([*words, "--split", "all", "--json"]) == 1
    printed = capsys.readouterr()
    assert "was trained on 3 of the 6 videos of this test (synthetic/operation_0" in printed.err
    assert "--allow-overlap" in printed.err
    assert main([*words, "--split", "all", "--allow-overlap", "--json"]) == 0
    notes = capsys.readouterr().err
    assert "was trained on 3 of the 6 videos of this test" in notes
    assert "was chosen by 1 videos of this test (synthetic/operation_000000)" in notes
    frames = load_frame_set("synthetic", hospitals / "here", "train")
    renamed = frames.remove_columns(["source", "video_id", "phase"])
    for name in ("source", "video_id"):
        renamed = renamed.add_column(name, [f"new {value}" for value in frames[name]])
    with pytest.raises(OverlapError, match="trained on 3 of the 3 videos"):
        check_unseen(hospitals / "run/model", renamed)
    assert check_unseen(tmp_path, frames) == []  # nothing is known of this model


def test_files_of_another_program_get_the_same_numbers_as_the_model(hospitals, tmp_path, capsys):
    predictions = ClipPredictions.load(hospitals / "run/predictions.parquet")
    for video, scores in predictions.by_video(predictions.scores).items():
        np.save(tmp_path / f"{video.partition('/')[2]}.npy", scores)
    words = [
        "evaluate",
        "--predictions",
        str(tmp_path),
        "--data",
        f"synthetic={hospitals / 'there'}",
        "--split",
        "all",
    ]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["metrics"]
    assert said == pytest.approx(read(hospitals / "run/results.json")["metrics"], abs=1e-6)


def test_label_files_do_without_a_frame_set(tmp_path, capsys):
    for kind, text in (
        ("labels", "start,end,phase\n0,4,cut\n4,10,sew\n"),
        ("said", "start,end,phase\n0,5,cut\n5,10,sew\n"),
    ):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "op1.csv").write_text(text)
    words = ["evaluate", "--predictions", str(tmp_path / "said"), "--labels", str(tmp_path / "labels"), "--json"]
    assert main([*words, "--output", str(tmp_path / "result")]) == 0
    assert "| unknown |" in (tmp_path / "result/tables.md").read_text()  # how much was trained
    said = json.loads(capsys.readouterr().out)
    assert said["metrics"]["image_accuracy"] == pytest.approx(0.9)
    assert "calibration_error" not in said["results"]["classification"]  # there are no probabilities


def files(tmp_path, prediction, labels="start,end,phase\n0,8,sew\n8,20,cut\n"):
    """Return the words that compare an array with a file of labels."""
    for kind in ("said", "labels"):
        (tmp_path / kind).mkdir()
    np.save(tmp_path / "said/op1.npy", prediction)
    (tmp_path / "labels/op1.csv").write_text(labels)
    return ["evaluate", "--predictions", str(tmp_path / "said"), "--labels", str(tmp_path / "labels")]


def test_numbers_of_classes_need_an_order_that_somebody_gave(tmp_path, capsys):
    truth = np.repeat([1, 0], [8, 12])  # in the order of classes.txt, not as the names appear in the labels
    words = files(tmp_path, truth)
    assert main([*words, "--json"]) == 1
    assert "nothing says which number is which class of the labels (sew, cut): put classes.txt" in (
        capsys.readouterr().err
    )
    (tmp_path / "labels/classes.txt").write_text("cut\nsew\n")
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["metrics"]["image_accuracy"] == 1
    assert "0 = cut, 1 = sew" in printed.err


def test_numbers_in_the_labels_too_are_their_own_order(tmp_path, capsys):
    words = files(tmp_path, np.repeat([1, 0], [8, 12]), "start,end,phase\n0,8,1\n8,20,0\n")
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["image_accuracy"] == 1


def test_an_array_of_more_rows_than_the_video_has_seconds_needs_their_distance(tmp_path, capsys):
    words = files(tmp_path, np.repeat([1, 0], [80, 120]))
    (tmp_path / "labels/classes.txt").write_text("cut\nsew\n")
    assert main([*words, "--json"]) == 1
    assert "has 200 rows, which are 200 s at 1 s a row, and its labels end at 20 s: say with --every" in (
        error := capsys.readouterr().err
    )
    assert "--every 0.1" in error
    assert main([*words, "--every", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["image_accuracy"] == 1
    np.save(tmp_path / "said/op1.npy", np.repeat([1, 0], [8, 17]))  # five rows more may be
    assert main([*words, "--json"]) == 0


def test_one_table_with_the_labels_of_several_videos_is_refused_with_what_is_expected(tmp_path, capsys):
    words = files(tmp_path, np.zeros(4, int), "video,second,phase\nop1,0,cut\nop1,1,cut\nop2,0,sew\nop2,1,sew\n")
    assert main(words) == 1
    assert "holds the labels of 2 videos (op1, op2), but one file for each video is expected" in (
        capsys.readouterr().err
    )


def test_the_report_has_intervals_variants_classes_and_videos(hospitals):
    words = ["evaluate", str(hospitals / "run/model"), "--data", f"synthetic={hospitals / 'there'}", "--split", "all"]
    folder = hospitals / "reported"
    assert main([*words, "--output", str(folder), "--resamples", "50"]) == 0
    text, results = (folder / "report.md").read_text(), read(folder / "results.json")
    for heading in ("# model on synthetic", "## Variants", "## Classes", "## Videos", "| 95 % interval |"):
        assert heading in text
    with (folder / "videos.csv").open(newline="") as stream:
        videos = list(csv.DictReader(stream))
    assert [row["video"] for row in videos] == sorted(results["by_video"])
    for row in videos:
        assert float(row["video_accuracy"]) == pytest.approx(results["by_video"][row["video"]])
    with (folder / "classes.csv").open(newline="") as stream:
        classes = list(csv.DictReader(stream))
    assert [row["class"] for row in classes] == results["classes"]
    low, high = results["results"]["intervals"]["video_accuracy"]
    assert low <= results["metrics"]["video_accuracy"] <= high


def test_predictions_with_other_class_names_are_compared_after_a_mapping(tmp_path, capsys):
    for kind, text in (
        ("labels", "start,end,phase\n0,4,cut\n4,8,sew\n8,10,idle\n"),
        ("said", "start,end,phase\n0,5,Cutting\n5,10,Suturing\n"),
    ):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "op1.csv").write_text(text)
    words = ["evaluate", "--predictions", str(tmp_path / "said"), "--labels", str(tmp_path / "labels"), "--json"]
    assert main(words) == 1
    assert "holds the label 'Cutting'; known are cut, sew, idle" in capsys.readouterr().err
    mapping = ["--classes", "cut=Cutting", "--classes", "sew=Suturing", "--classes", "idle="]
    assert main([*words, *mapping]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["image_accuracy"] == pytest.approx(7 / 8)
    assert main([*words, "--classes", "idel="]) == 1
    assert "the labels have no class 'idel'; did you mean idle?" in capsys.readouterr().err


@pytest.fixture
def instruments(hospitals, tmp_path):
    """Write the instruments of the other hospital as three programs would, with one mistake in each video."""
    frames = load_frame_set("synthetic", hospitals / "there", "all")
    names = frames.features["instruments"].feature.names
    rows = frames.select_columns(["video_id", "timestamp", "instruments"]).with_format(None)[:]
    for kind in ("choices", "scores", "spans"):
        (tmp_path / kind).mkdir()
    for video in dict.fromkeys(rows["video_id"]):
        own = [n for n, name in enumerate(rows["video_id"]) if name == video]
        present = np.zeros((len(own), len(names)), int)
        for row, number in enumerate(own):
            present[row, rows["instruments"][number]] = 1
        present[0] = 1 - present[0]
        (tmp_path / f"choices/{video}.json").write_text(json.dumps([np.flatnonzero(row).tolist() for row in present]))
        np.save(tmp_path / f"scores/{video}.npy", 0.1 + 0.8 * present)
        lines = ["start,end,label"]
        lines += [f"{row},{row + 1},{names[number]}" for row, number in zip(*np.nonzero(present), strict=True)]
        (tmp_path / f"spans/{video}.csv").write_text("\n".join(lines))
    return tmp_path


def test_instruments_of_any_program_are_compared(hospitals, instruments, capsys):
    found = {}
    for kind in ("choices", "scores", "spans"):
        words = ["evaluate", "--predictions", str(instruments / kind), "--data", f"synthetic={hospitals / 'there'}"]
        output = instruments / f"{kind}_result"
        assert main([*words, "--split", "all", "--label", "instruments", "--json", "--output", str(output)]) == 0
        found[kind] = json.loads(capsys.readouterr().out)
        assert (output / "tables.md").is_file()
    assert found["choices"]["metrics"] == found["spans"]["metrics"]
    assert found["choices"]["metrics"]["subset_accuracy"] == pytest.approx(13 / 14)
    assert found["scores"]["metrics"]["macro_f1"] == pytest.approx(found["choices"]["metrics"]["macro_f1"])
    assert "mean_average_precision" not in found["choices"]["metrics"]  # nothing was ranked
    assert not any("average_precision" in row for row in found["choices"]["classes"].values())
    assert found["scores"]["metrics"]["mean_average_precision"] < 1
    assert (instruments / "scores_result/plots/synthetic_average_precision.png").is_file()
    assert read(instruments / "choices_result/results.json")["main_metric"] == "macro_f1"


def test_triplets_of_another_program_need_scores(hospitals, tmp_path, capsys):
    frames = load_frame_set("synthetic", hospitals / "there", "all")
    rows = frames.select_columns(["video_id", "triplets"]).with_format(None)[:]
    present = np.zeros((len(rows["video_id"]), 100))
    for number, triplets in enumerate(rows["triplets"]):
        present[number, triplets] = 1
    words = [
        "evaluate",
        "--data",
        f"synthetic={hospitals / 'there'}",
        "--split",
        "all",
        "--label",
        "triplets",
        "--json",
    ]
    for kind, scores in (("right", 0.1 + 0.8 * present), ("chosen", present)):
        (tmp_path / kind).mkdir()
        for video in dict.fromkeys(rows["video_id"]):
            np.save(tmp_path / f"{kind}/{video}.npy", scores[[name == video for name in rows["video_id"]]])
    assert main([*words, "--predictions", str(tmp_path / "right"), "--output", str(tmp_path / "result")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["ap_ivt"] == pytest.approx(1)
    assert found["classes"]["instrument hook"]["average_precision"] == pytest.approx(1)
    assert (tmp_path / "result/plots/components_average_precision.png").is_file()
    assert main([*words, "--predictions", str(tmp_path / "chosen")]) == 1
    assert "triplets are ranked by a score of each class" in capsys.readouterr().err


def test_labels_may_be_columns_of_zeros_and_ones(tmp_path, capsys):
    for kind, second in (("labels", "0,1"), ("said", "1,1")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "op1.csv").write_text(f"second,hook,clip\n0,1,0\n1,{second}\n2,0,0\n")
    (tmp_path / "labels/classes.txt").write_text("hook\nclip\n")
    words = ["evaluate", "--predictions", str(tmp_path / "said"), "--labels", str(tmp_path / "labels"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["subset_accuracy"] == pytest.approx(2 / 3)
    assert found["classes"]["hook"]["f1"] == pytest.approx(2 / 3)


def test_frames_are_compared_where_their_distance_is_given(tmp_path, capsys):
    for kind, text in (
        ("labels", "start_frame,end_frame,phase\n0,99,cut\n100,249,sew\n"),
        ("said", "frame,phase\n" + "".join(f"{frame},{'cut' if frame < 125 else 'sew'}\n" for frame in range(250))),
    ):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "op1.csv").write_text(text)
    words = ["evaluate", "--predictions", str(tmp_path / "said"), "--labels", str(tmp_path / "labels"), "--json"]
    assert main(words) == 1
    assert "labels count frames; say with --every" in capsys.readouterr().err
    assert main([*words, "--every", "0.04"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["image_accuracy"] == pytest.approx(9 / 10)


def test_predictions_of_videos_without_labels_are_said(tmp_path, caplog):
    for kind, names in (("labels", ["op1"]), ("said", ["op1", "op2"])):
        (tmp_path / kind).mkdir()
        for name in names:
            (tmp_path / kind / f"{name}.csv").write_text("start,end,phase\n0,4,cut\n4,8,sew\n")
    words = ["evaluate", "--predictions", str(tmp_path / "said"), "--labels", str(tmp_path / "labels")]
    assert main(words) == 0
    assert "predictions of 1 videos have no labels here and are left out: op2" in caplog.text


def test_a_model_is_tested_on_a_fold(hospitals, tmp_path, capsys):
    file = tmp_path / "folds.yaml"
    assert main(["split", f"synthetic={hospitals / 'there'}", "--folds", "3", "--output", str(file)]) == 0
    words = ["evaluate", str(hospitals / "run/model"), "--data", f"synthetic={hospitals / 'there'}"]
    capsys.readouterr()
    assert main([*words, "--split-file", str(file), "--fold", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["by_video"]
    assert sorted(found) == [f"synthetic/{video}" for video in read_split_file(file).splits(1)["test"]]
    assert main([*words, "--split-file", str(file)]) == 1
    assert "holds 3 folds: choose one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "give either a model or --predictions"),
        (["m", "--predictions", "p"], "give either a model or --predictions"),
        (["m"], "give either --data NAME=DIR or --labels FOLDER"),
        (["m", "--labels", "l"], "a model needs a frame set"),
        (["--predictions", "nowhere", "--labels", "nowhere"], "holds no label files"),
        (["m", "--data", "synthetic"], "NAME=DIR is expected"),
    ],
)
def test_bad_arguments_end_in_one_line(words, complaint, capsys):
    assert main(["evaluate", *words]) != 0
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert complaint in error[0]


def test_a_video_without_predictions_is_named(hospitals, tmp_path, capsys):
    np.save(tmp_path / "other.npy", np.zeros(3, int))
    words = [
        "evaluate",
        "--predictions",
        str(tmp_path),
        "--data",
        f"synthetic={hospitals / 'there'}",
        "--split",
        "all",
    ]
    assert main(words) == 1
    assert "holds no predictions of 6 of 6 videos" in capsys.readouterr().err


def test_a_label_column_that_is_not_there_is_named(hospitals, capsys):
    words = [
        "evaluate",
        str(hospitals / "run/model"),
        "--data",
        f"synthetic={hospitals / 'there'}",
        "--label",
        "phaze",
    ]
    assert main(words) == 1
    assert "--label is 'phaze'; the frame set has the columns" in capsys.readouterr().err
