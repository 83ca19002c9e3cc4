"""JSON documents, tables and XML as every reader of labels takes them."""

import pytest

from surgvista_hf.datasets_scripts.own_labels import boris, camma, coco, cvat, elan, label_studio, via
from surgvista_hf.datasets_scripts.own_labels.documents import Node, read_document, read_head, read_rows
from surgvista_hf.datasets_scripts.schema import annotation_files
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

from .reading import written

READERS = [boris, camma, coco, cvat, elan, label_studio, via]


def test_a_value_knows_the_keys_and_indices_that_lead_to_it(tmp_path):
    node = read_document(written(tmp_path, "a.json", {"b c": {"d": [1, {"e": " text "}]}}))
    value = node.field("b c").field("d").elements()[1].field("e")
    assert value.text() == "text"
    assert value.where == "a.json, ['b c'].d[1].e"
    assert str(value.error("no")) == f"{tmp_path / 'a.json'}, ['b c'].d[1].e: no"
    assert node.where == "a.json"
    assert str(node.error("no")) == f"{tmp_path / 'a.json'}: no"


@pytest.mark.parametrize(
    ("content", "text", "number"),
    [
        ("a", "a", None),
        (" 1.50 ", "1.50", 1.5),
        (3, "3", 3.0),
        (0.1, "0.1", 0.1),
        (True, "true", None),
        (1e400, "Infinity", None),
    ],
)
def test_texts_and_numbers_are_taken_for_each_other_and_truth_values_for_texts(tmp_path, content, text, number):
    node = Node(tmp_path / "a.json", "a", content)
    assert node.text() == text
    if number is None:
        with pytest.raises(AnnotationError, match="a number of at least 0 is expected, here is"):
            node.number()
    else:
        assert node.number() == number


@pytest.mark.parametrize("content", [None, [], {}])
def test_what_is_no_text_is_refused(tmp_path, content):
    with pytest.raises(AnnotationError, match=r"a\.json, a: a text is expected, here is (?:null|an object|a list)"):
        Node(tmp_path / "a.json", "a", content).text()


@pytest.mark.parametrize("content", ["1.5", -1, float("nan"), "1e99", "x" * 99])
def test_a_whole_number_is_finite_and_not_negative(tmp_path, content):
    with pytest.raises(AnnotationError, match=r"number.* is expected, here is") as raised:
        Node(tmp_path / "a.json", "a", content).integer()
    assert len(str(raised.value)) < len(str(tmp_path)) + 150


def test_tables_may_have_quoted_line_ends_and_any_of_three_delimiters(tmp_path):
    rows = [(1, ["a", "b"]), (3, ["1\n2", "3"]), (5, ["4", ""])]
    for mark in ",;\t":
        path = written(tmp_path, "a.csv", f'\ufeffa{mark}b\n"1\n2"{mark} 3 \n{mark}\n4{mark}\n')
        assert read_rows(path) == rows


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.FORMAT)
@pytest.mark.parametrize("suffix", [".json", ".xml", ".eaf", ".boris", ".csv"])
def test_files_that_are_no_text_and_paths_that_are_no_files_are_refused_in_one_sentence(tmp_path, reader, suffix):
    binary = tmp_path / f"a{suffix}"
    binary.write_bytes(bytes(range(256)) * 400)
    for path in (binary, tmp_path, tmp_path / f"missing{suffix}", written(tmp_path, f"empty{suffix}", "")):
        assert reader.recognizes(path) in (False, path.is_file() and suffix in (".eaf", ".boris"))
        with pytest.raises(AnnotationError) as raised:
            reader.read(path)
        assert "\n" not in str(raised.value)
        assert str(raised.value).count(str(path)) == 1 or not path.is_file()


def test_the_beginning_of_a_file_may_end_within_a_character(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + "é".encode() * 40_000)
    assert set(read_head(path)) == {"é"}


@pytest.mark.parametrize("reader", [elan, cvat], ids=lambda reader: reader.FORMAT)
def test_documents_that_are_too_large_are_not_read(tmp_path, monkeypatch, reader):
    monkeypatch.setattr(annotation_files, "_LARGEST_XML", 100)
    with pytest.raises(AnnotationError, match="XML documents up to 256 MiB are read"):
        reader.read(written(tmp_path, "a.xml", "<a>" + " " * 100 + "</a>"))


@pytest.mark.parametrize("reader", [elan, cvat], ids=lambda reader: reader.FORMAT)
@pytest.mark.parametrize(
    "prolog",
    ["", "\n", "<!-- a > b -->", '<?xml version="1.0"?>\n<?style a?><!--x-->\n', "<!-- <!DOCTYPE b> -->\n<!---->"],
)
def test_entities_that_grow_without_end_are_not_expanded(tmp_path, reader, prolog):
    levels = "".join(f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(1, 10))
    bomb = f'{prolog}<!DOCTYPE a [<!ENTITY e0 "ha">{levels}]><a>&e9;</a>'
    with pytest.raises(AnnotationError, match=r"declares a document type|is not XML"):
        reader.read(written(tmp_path, "a.xml", bomb))
