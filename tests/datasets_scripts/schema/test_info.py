"""The tables of the data sets hold the published totals and splits."""

import json

import pytest

from surgvista_hf import list_datasets as exported
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder, list_datasets, triplet_table
from surgvista_hf.datasets_scripts.schema.info import DatasetError, Protocol, seeded_protocol, shuffled
from tests.conftest import REPOSITORY

# data set, protocol: videos for training, validation, test
SIZES = {
    ("cholec80", "surgvista"): (40, 35, 35),
    ("cholec80", "careful"): (32, 8, 35),
    ("cholec80", "standard_40_40"): (40, 0, 40),
    ("cholec80", "standard_32_8_40"): (32, 8, 40),
    ("cholec80", "camma_40_8_32"): (40, 8, 32),
    ("m2cai16_workflow", "surgvista"): (27, 14, 14),
    ("autolaparo", "official"): (10, 4, 7),
    ("cataracts", "official"): (25, 5, 20),
    ("cataract101", "fold1"): (50, 10, 40),
    ("cataract101", "fold3"): (50, 10, 40),
    ("cataract101", "fold2_60_13_28"): (60, 13, 28),
    ("cataract21", "surgvista"): (17, 4, 4),
    ("cataract21", "baseline_18_3"): (18, 0, 3),
    ("pmlr50", "official"): (35, 5, 10),
    ("surgicalactions160", "surgvista"): (112, 48, 48),
    ("surgicalactions160", "stratified"): (96, 16, 48),
    ("surgicalactions160", "stratified_7_2_1"): (112, 32, 16),
    ("cholect50", "challenge"): (40, 5, 5),
    ("cholect50", "rendezvous"): (35, 5, 10),
    ("cholect50", "fold1"): (35, 5, 10),
    ("cholect45", "fold5"): (31, 5, 9),
    ("prostatd", "split5"): (14, 2, 5),
    ("prostate21", "split1"): (15, 2, 4),
    ("cholec80_cvs", "surgvista"): (36, 4, 40),
    ("cholec80_cvs", "authors"): (50, 15, 15),
    ("endoscapes", "official"): (120, 41, 40),
    ("m2cai16_tool", "surgvista"): (2, 0, 0),
    ("pitvis", "common"): (20, 5, 5),
    ("psi_ava", "everything"): (8, 0, 0),
    ("bernbypass70", "everything"): (70, 0, 0),
    ("multibypass140", "everything"): (140, 0, 0),
}
CLASSES = {
    "cholec80": ("phase", 7),
    "m2cai16_workflow": ("phase", 8),
    "autolaparo": ("phase", 7),
    "cataracts": ("phase", 19),
    "cataract101": ("phase", 10),
    "cataract21": ("phase", 11),
    "pmlr50": ("phase", 5),
    "esd57": ("phase", 8),
    "surgicalactions160": ("action", 16),
    "cholect50": ("triplets", 100),
    "cholect45": ("triplets", 100),
    "prostate21": ("triplets", 89),
    "prostatd": ("triplets", 89),
    "cholec80_cvs": ("cvs_score", 7),
    "endoscapes": ("cvs_any", 4),
    "multibypass140": ("step", 46),
    "pitvis": ("step", 14),
    "lemon": ("procedures", 35),
}


@pytest.mark.parametrize(("name", "protocol"), SIZES)
def test_splits_have_the_published_sizes(name, protocol):
    splits = get_builder(name).info.protocols[protocol].splits
    assert tuple(len(splits.get(split, ())) for split in ("train", "validation", "test")) == SIZES[name, protocol]


@pytest.mark.parametrize("name", CLASSES)
def test_labels_have_the_published_number_of_classes(name):
    column, count = CLASSES[name]
    assert len(set(get_builder(name).info.labels[column].names)) == count


@pytest.mark.parametrize("info", list_datasets(), ids=lambda info: info.name)
def test_protocols_list_known_videos_once_and_never_train_on_the_test(info):
    for name, protocol in info.protocols.items():
        splits = {split: set(ids) for split, ids in protocol.splits.items()}
        for split, ids in protocol.splits.items():
            assert len(ids) == len(splits[split]), (name, split)
            if info.video_ids:
                assert splits[split] <= set(info.video_ids), (name, split)
        assert not splits.get("train", set()) & (splits.get("test", set()) | splits.get("validation", set())), name
        assert (bool(protocol.splits) + bool(protocol.fractions) + bool(protocol.by_part)) == 1, name
    if "videos" in info.totals and info.video_ids:
        assert len(info.video_ids) == info.totals["videos"]
    assert info.license
    assert info.homepage
    assert info.access


def test_cholec80_leaves_the_five_suspected_copies_out_of_the_surgvista_test():
    test = get_builder("cholec80").info.protocols["surgvista"].splits["test"]
    missing = {f"video{number}" for number in range(41, 81)} - set(test)
    assert missing == {"video73", "video77", "video78", "video79", "video80"}


def test_lists_equal_those_of_the_fact_sheet(shared_data):
    """The sheet was written from the sources by others; here every list is compared."""
    sheet = json.loads((shared_data.parent / "spec" / "benchmark_splits.json").read_text(encoding="utf-8"))
    names = {"val": "validation", "train": "train", "test": "test"}
    pairs = [
        ("cholec80", "surgvista", sheet["cholec80"]["surgvista"]),
        ("cholec80", "standard_40_40", sheet["cholec80"]["standard_40_40"]),
        ("cholec80", "camma_40_8_32", sheet["cholec80"]["camma_40_8_32"]),
        ("cholec80", "careful", sheet["cholec80"]["careful"]),
        ("m2cai16_workflow", "surgvista", sheet["m2cai16_workflow"]["surgvista"]),
        ("autolaparo", "official", sheet["autolaparo"]["surgvista"]),
        ("cataracts", "official", sheet["cataracts"]["surgvista"]),
        ("cataract21", "surgvista", sheet["cataract21"]["surgvista"]),
        ("cataract21", "baseline_18_3", sheet["cataract21"]["feature_extraction_program"]),
        ("pmlr50", "official", sheet["pmlr50"]["official"]),
        ("cholec80_cvs", "authors", sheet["cholec80_cvs"]["dataset_authors"]),
        *(("prostatd", name, lists) for name, lists in sheet["prostate21"]["prostatd_v2"].items()),
    ]
    for name, protocol, lists in pairs:
        splits = get_builder(name).info.protocols[protocol].splits
        for split, ids in lists.items():
            if isinstance(ids, list):
                assert set(splits[names[split]]) == set(ids), (name, protocol, split)
    for protocol, key in (("challenge", "challenge (surgvista)"), ("rendezvous", "rendezvous")):
        for split, numbers in sheet["cholect50"][key].items():
            ids = {f"VID{number:02d}" for number in numbers}
            assert set(get_builder("cholect50").info.protocols[protocol].splits[names[split]]) == ids


def test_class_names_equal_those_of_the_fact_sheet(shared_data):
    sheet = json.loads((shared_data.parent / "spec" / "benchmark_labels.json").read_text(encoding="utf-8"))
    for name in (
        "cholec80",
        "m2cai16_workflow",
        "autolaparo",
        "cataracts",
        "cataract101",
        "cataract21",
        "pmlr50",
        "surgicalactions160",
    ):
        assert list(next(iter(get_builder(name).info.labels.values())).names) == sheet[name]["names"], name
    for name in ("cholect50", "prostate21"):
        labels = get_builder(name).info.labels
        for part in ("instruments", "verbs", "targets"):
            assert list(labels[part].names) == sheet[name][part], (name, part)
    assert list(get_builder("multibypass140").info.labels["phase"].names) == sheet["multibypass140"]["phases"][:13]


@pytest.mark.parametrize(
    ("name", "null", "pairs"),
    [
        ("cholect50", (94, 95, 96, 97, 98, 99), (26, 59)),
        ("prostate21", (21, 45, 53, 66, 79, 85, 88), (25, 52)),
        ("prostatd", (21, 45, 52, 66, 79, 85, 88), (25, 51)),
    ],
)
def test_triplet_tables_have_the_published_null_classes_and_pairs(name, null, pairs):
    table = triplet_table(name)
    assert table.null == null
    assert len({(i, v) for i, v, _ in table.components}) == pairs[0]
    assert len({(i, t) for i, _, t in table.components}) == pairs[1]
    assert len(set(table.components)) == len(table.components)


def test_each_data_set_of_triplets_brings_the_table_of_its_label_columns():
    having = {info.name: info for info in list_datasets() if info.triplets is not None}
    assert set(having) == {info.name for info in list_datasets() if "triplets" in info.labels}
    for name, info in having.items():
        assert info.labels["triplets"].names == triplet_table(name).names
        assert info.labels["instruments"].names == triplet_table(name).instruments
        assert len(info.labels["triplets"].names) == info.totals.get("triplets", 100)
    with pytest.raises(DatasetError, match="no table of triplets for 'cholec80'; there is one for cholect50"):
        triplet_table("cholec80")


def test_the_releases_of_prostate21_differ_in_two_triplets():
    first, second = (set(triplet_table(name).names) for name in ("prostate21", "prostatd"))
    assert first - second == {"aspirator,retract,catheter"}
    assert second - first == {"needle driver,grasp,prostate"}


def test_random_lists_never_change():
    assert shuffled(("a", "b", "c", "d"), 0) == ("d", "a", "c", "b")
    fold = get_builder("cataract101").info.protocols["fold1"].splits
    assert fold["validation"] == tuple("280 350 770 802 817 847 857 890 899 909".split())
    held_out = get_builder("cholec80_cvs").info.protocols["surgvista"].splits["validation"]
    assert held_out == ("video01", "video20", "video35", "video40")


def test_shares_divide_what_is_found_as_the_authors_did():
    protocol = Protocol("x", fractions={"train": 0.7, "validation": 0.1, "test": 0.2})
    found = {str(number): {} for number in range(57)}
    assert [len(protocol.listed(split, found)) for split in protocol.names] == [39, 6, 12]


def test_a_split_larger_than_the_data_set_is_refused():
    with pytest.raises(DatasetError, match="needs 5 videos; there are 2"):
        seeded_protocol(("a", "b"), {"train": 3, "test": 2}, 0, "x")


def test_unknown_names_suggest_near_ones():
    with pytest.raises(DatasetError, match="did you mean cholec80"):
        get_builder("colec80")
    assert get_builder("Surg-3M").info.name == "lemon"
    assert exported() == list_datasets()


def test_the_table_in_the_documentation_is_that_of_the_package():
    from surgvista_hf.datasets_scripts.frame_sets.registry import markdown_table

    assert markdown_table() in (REPOSITORY / "docs" / "reference" / "datasets.md").read_text(encoding="utf-8")
