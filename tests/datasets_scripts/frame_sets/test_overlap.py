"""The overlap guard refuses what is documented, warns of what is only suspected, and lets the rest pass."""

import warnings

import pytest

from surgvista_hf.datasets_scripts.frame_sets.overlap import (
    OverlapError,
    OverlapWarning,
    check_overlap,
    find_overlaps,
    find_suspicions,
    operation_of,
    videos_of,
)
from surgvista_hf.datasets_scripts.schema.info import DatasetError

CORPUS = {"cholec80": videos_of("cholec80", split="train")["cholec80"]}


def silent(training, test):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return check_overlap(training, test)


def test_forty_five_videos_of_cholect50_are_cholec80_videos_and_five_are_not():
    everything = {"cholec80": [f"video{number:02d}" for number in range(1, 81)]}
    t50 = {
        "cholect50": [
            video
            for split in ("train", "validation", "test")
            for video in videos_of("cholect50", split=split)["cholect50"]
        ]
    }
    assert len({overlap.test for overlap in find_overlaps(everything, t50)}) == 45
    assert operation_of("cholect50", "VID92") == "cholec120/92"


def test_the_challenge_test_shares_nothing_with_cholec80():
    assert silent(CORPUS, videos_of("cholect50", "challenge")) == []


def test_the_rendezvous_test_is_refused_after_training_on_cholec80():
    with pytest.raises(OverlapError, match=r"4 in all: .*cholec80/video06 = cholect50/VID06"):
        check_overlap(CORPUS, videos_of("cholect50", "rendezvous"))


def test_a_warning_replaces_the_refusal_on_request():
    with pytest.warns(OverlapWarning, match="4 in all"):
        overlaps = check_overlap(CORPUS, videos_of("cholect50", "rendezvous"), on_overlap="warn")
    assert {overlap.test for overlap in overlaps} == {f"cholect50/VID{number:02d}" for number in (6, 10, 14, 32)}


def test_clips_of_cholec80_cvs_are_the_videos_they_were_cut_from():
    assert operation_of("cholec80_cvs", "video41_7") == operation_of("cholec80", "video41")
    with pytest.raises(OverlapError):
        check_overlap({"cholec80_cvs": ["video41_7"]}, videos_of("cholec80"))


def test_pre_training_and_test_of_the_published_cholec80_setting_share_nothing():
    assert silent(CORPUS, videos_of("cholec80", "surgvista")) == []
    assert silent(CORPUS, videos_of("cholec80_cvs", "surgvista")) == []


def test_the_eight_operations_of_psi_ava_are_in_prostate21():
    psi_ava = {"psi_ava": videos_of("psi_ava", "everything", "train")["psi_ava"]}
    with pytest.raises(OverlapError, match="psi_ava/CASE003 = prostate21/psiv3"):
        check_overlap(psi_ava, videos_of("prostate21", "split5"))
    assert len(find_overlaps(psi_ava, {"prostatd": [f"psiv{n}" for n in (1, 2, 3, 4, 7, 14, 15, 21)]})) == 8


@pytest.mark.parametrize(
    ("training", "test"),
    [
        ({"m2cai16_workflow": ["video_05"]}, {"cholec80": ["video78"]}),
        ({"m2cai16_workflow": ["video_05"]}, {"cholec80_cvs": ["video78_1"]}),
        ({"m2cai16_tool": ["tool_video_02"]}, {"cholec80": ["video41"]}),
        (CORPUS, videos_of("endoscapes")),
        ({"endoscapes": ["1"]}, {"cholect45": ["VID01"]}),
    ],
)
def test_suspected_overlaps_warn(training, test):
    with pytest.warns(OverlapWarning, match="may share operations"):
        assert check_overlap(training, test) == []


@pytest.mark.parametrize(
    ("training", "test"),
    [
        ({"m2cai16_workflow": ["video_05"]}, {"cholec80": ["video41"]}),
        ({"m2cai16_workflow": ["video_28"]}, {"cholec80": ["video78"]}),
        ({"m2cai16_tool": ["tool_video_09", "tool_video_13"]}, {"cholec80": ["video41"]}),
        ({"autolaparo": ["01"]}, {"pmlr50": ["01"]}),
    ],
)
def test_nothing_else_is_suspected(training, test):
    assert find_suspicions(training, test) == []
    assert silent(training, test) == []


def test_protocols_without_lists_ask_for_the_frame_set():
    with pytest.raises(DatasetError, match="give the loaded frame set"):
        videos_of("lemon")


@pytest.mark.parametrize(
    ("clip", "video"),
    [
        (("surgrec_cholec80", "split_video/cholec80_06_3.mp4"), ("cholect50", "VID06")),
        (("surgrec_autolaparo", "split_video/label_15_2.mp4"), ("autolaparo", "15")),
        (
            ("surgrec_cataract101", "split_clip/phase_01_incision/case_269_phase01_001_000068_001043.mp4"),
            ("cataract101", "269"),
        ),
        (("surgrec_cataract21", "split_clip/Rhexis/case_18_validation_0003.mp4"), ("cataract21", "case_18")),
        (
            ("surgrec_m2cai16_workflow", "split_video/m2cai16w_test_dataset_test_workflow_video_03_Preparation.mp4"),
            ("m2cai16_workflow", "video_30"),
        ),
        (
            ("surgrec_multibypass140", "split_videos/bern/phase/BBP03/BBP03_phase_001_preparation_0-9.mp4"),
            ("bernbypass70", "BBP03"),
        ),
        (("surgrec_pitvis", "split_clip/01_x/video_02_label01_x_seg000_00000-00174.mp4"), ("pitvis", "video_02")),
        (("surgrec_surgicalactions160", "01_abdominal_access/01_08.mp4"), ("surgicalactions160", "01_08")),
    ],
)
def test_clips_of_surgrec_are_the_operations_they_were_cut_from(clip, video):
    assert operation_of(*clip) == operation_of(*video)
    with pytest.raises(OverlapError):
        check_overlap({video[0]: [video[1]]}, {clip[0]: [clip[1]]})


def test_clips_of_one_source_overlap_where_there_is_no_other_data_set():
    videos = [f"videos/pylorus/{'a' * 16}_{part}.mp4" for part in ("0-9", "20-29")]
    with pytest.raises(OverlapError):
        check_overlap({"surgrec_kvasir_capsule": videos[:1]}, {"surgrec_kvasir_capsule": videos[1:]})


def test_the_test_of_a_benchmark_may_be_listed_in_a_file(tmp_path):
    (tmp_path / "folds.yaml").write_text(
        "folds:\n- {train: [VID02], test: [VID01]}\n- {train: [VID01], test: [VID02]}\n"
    )
    tested = videos_of("cholect50", split_file=tmp_path / "folds.yaml", fold=1)
    assert tested == {"cholect50": ("VID02",)}
    with pytest.raises(OverlapError, match="cholec80/video02 = cholect50/VID02"):
        check_overlap({"cholec80": ["video02"]}, tested)
    assert check_overlap({"cholec80": ["video01"]}, tested) == []
    with pytest.raises(DatasetError, match="there is no split 'val'"):
        videos_of("cholect50", None, "val", split_file=tmp_path / "folds.yaml", fold=0)
    (tmp_path / "other.yaml").write_text("format: 1\ndata: cholec80\nsplits:\n  test: [video01]\n")
    with pytest.raises(DatasetError, match=r"has splits of cholec80, not of cholect50"):
        videos_of("cholect50", split_file=tmp_path / "other.yaml")
