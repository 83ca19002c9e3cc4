"""Which files the names in labels mean."""

import pytest

from surgvista_hf.datasets_scripts.own_labels.videos import assign_videos, joinable_files


@pytest.mark.parametrize(
    ("names", "files", "expected"),
    [
        (["op1", "op2.mp4"], ["op1.mp4", "op2.mp4"], {"op1": ["op1.mp4"], "op2": ["op2.mp4"]}),
        (["OP1", r"C:\videos\op2.MP4"], ["a/op1.avi", "a/op2.mp4"], {"a/op1": ["a/op1.avi"], "a/op2": ["a/op2.mp4"]}),
        (["VID68"], ["VID68/", "VID70/"], {"VID68": ["VID68/"]}),
        (["op1"], ["op1-1.mp4", "op1-2.mp4"], {"op1": ["op1-1.mp4", "op1-2.mp4"]}),
        (["op1-1", "op1-2"], ["op1-1.mp4", "op1-2.mp4"], {"op1-1": ["op1-1.mp4"], "op1-2": ["op1-2.mp4"]}),
        (["op1-1", "op1-2", "op1"], ["op1-1.mp4", "op1-2.mp4"], {"op1": ["op1-1.mp4", "op1-2.mp4"]}),
        (["op1_part1", "op1_part2"], ["op1_part1.mp4", "op1_part2.mp4"], {"op1": ["op1_part1.mp4", "op1_part2.mp4"]}),
        (["2023-01", "2023-02"], ["2023-01.mp4", "2023-02.mp4"], {"2023-01": ["2023-01.mp4"], "2023-02": ["2023-02.mp4"]}),
        (["Chole2023_1", "Chole2023_2"], ["Chole2023_1.mp4", "Chole2023_2.mp4"],
         {"Chole2023_1": ["Chole2023_1.mp4"], "Chole2023_2": ["Chole2023_2.mp4"]}),
        (["12"], ["12_1.mp4", "12_2.mp4"], {"12": ["12_1.mp4", "12_2.mp4"]}),
        (["op1"], [f"op1_part{n}.mp4" for n in (1, 10, *range(2, 10))], {"op1": [f"op1_part{n}.mp4" for n in range(1, 11)]}),
        (["op-1", "op-2"], ["op-1.mp4", "op-2.mp4"], {"op-1": ["op-1.mp4"], "op-2": ["op-2.mp4"]}),
        (["op"], ["op-1.mp4", "op-2.mp4"], {"op": ["op-1.mp4", "op-2.mp4"]}),
        (["2024-05-01", "2024-05-02"], ["2024-05-01.mp4", "2024-05-02.mp4"],
         {"2024-05-01": ["2024-05-01.mp4"], "2024-05-02": ["2024-05-02.mp4"]}),
        (["GH010007"], ["GH010007.MP4", "GH020007.MP4"], {"GH010007": ["GH010007.MP4", "GH020007.MP4"]}),
        (["GOPR0007"], ["GOPR0007.MP4", "GP010007.MP4"], {"GOPR0007": ["GOPR0007.MP4", "GP010007.MP4"]}),
        (["op1-1"], ["op1-1.mp4", "op1-2.mp4"], {"op1-1": ["op1-1.mp4"]}),
        (["op1"], ["op1/10.mp4", "op1/9.mp4"], {"op1": ["op1/9.mp4", "op1/10.mp4"]}),
        (["7"], ["video07.mp4", "video17.mp4"], {"video07": ["video07.mp4"]}),
        (["op1"], ["op1.mp4", "op1-1.mp4", "op1-2.mp4"], {"op1": ["op1.mp4"]}),
    ],
)  # fmt: skip
def test_a_name_finds_its_files(names, files, expected):
    found = assign_videos(names, files)
    assert {name: list(video.files) for name, video in found.videos.items()} == expected
    assert (found.without_video, found.ambiguous) == ((), {})
    assert set(found.without_labels) == set(files) - {file for each in expected.values() for file in each}


def test_two_names_of_one_file_are_one_video():
    found = assign_videos(["op1", "videos/op1.mp4"], ["op1.mp4"])
    assert found.videos["op1"].labels == ("op1", "videos/op1.mp4")


def test_names_that_fit_nothing_or_several_files_are_reported():
    found = assign_videos(["op9", "op1"], ["a/op1.mp4", "b/op1.mp4"])
    assert found.videos == {}
    assert found.without_video == ("op9",)
    assert found.ambiguous == {"op1": ("a/op1.mp4", "b/op1.mp4")}


def test_parts_are_joined_only_if_none_is_missing():
    assert joinable_files(["op1_part1.mp4", "op1_part3.mp4"]) == []
    assert [group.files for group in joinable_files(["a/op1-2.mp4", "a/op1-1.mp4", "b/op1-3.mp4"])] == [
        ("a/op1-1.mp4", "a/op1-2.mp4")
    ]


@pytest.mark.parametrize("name", ["M\u00fcller", "Mu\u0308ller", "m\u00fcller.mp4"])
@pytest.mark.parametrize(
    "files",
    [
        ("Mu\u0308ller.mp4",),
        ("M\u00fcller.mp4",),
        ("Mu\u0308ller_part1.mp4", "Mu\u0308ller_part2.mp4"),
        ("Mu\u0308ller/1.mp4",),
    ],
)
def test_a_name_finds_files_however_their_accents_are_stored(name, files):
    found = assign_videos([name], files)
    assert {video_id.split("/")[0]: video.files for video_id, video in found.videos.items()} == {"M\u00fcller": files}


def test_operations_of_a_year_or_a_day_are_never_parts_of_it():
    found = assign_videos(["2023", "2024-05"], ["2023-1.mp4", "2023-2.mp4", "2024-05-01.mp4", "2024-05-02.mp4"])
    assert (found.videos, found.without_video) == ({}, ("2023", "2024-05"))


@pytest.mark.parametrize("names", [["op1_part1", "op1_part2"], ["op1_part1", "op1_part2", "op1"]])
def test_files_of_different_patients_are_never_joined(names):
    files = ["op1_part1.mp4", "op1_part2.mp4"]
    assert list(assign_videos(names, files, dict.fromkeys(names, "7")).videos) == ["op1"]
    found = assign_videos(names, files, {"op1_part1": "7", "op1_part2": "8"})
    assert {name: video.files for name, video in found.videos.items()} == {
        "op1_part1": ("op1_part1.mp4",),
        "op1_part2": ("op1_part2.mp4",),
    }
    assert [group.base for group in found.apart] == ["op1"]


def test_files_that_look_like_parts_and_stay_apart_are_reported():
    found = assign_videos(["OP23-1", "OP23-2", "op-1", "op-2"], ["OP23-1.mp4", "OP23-2.mp4", "op-1.mp4", "op-2.mp4"])
    assert [group.files for group in found.apart] == [("OP23-1.mp4", "OP23-2.mp4")]
