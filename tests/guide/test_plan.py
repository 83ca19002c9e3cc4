"""The plan says what labels suffice for, and holds whole operations out."""

import pytest

from surgvista_hf.guide.plan import LARGE_ENCODER, SMALL_ENCODER, Labels, held_out, insufficient, make_plan, weaknesses
from surgvista_hf.util.errors import InputError


def labels(count, *, seconds=600.0, multi_label=False, holders=None, class_seconds=None):
    names = [f"day{number}" for number in range(count)]
    return Labels(
        "phase",
        ("cut", "sew"),
        multi_label,
        dict.fromkeys(names, seconds),
        class_seconds or {"cut": 300.0 * count, "sew": 300.0 * count},
        holders or {"cut": names, "sew": names},
    )


@pytest.mark.parametrize("count", [2, 3, 5, 6, 17, 101])
def test_every_operation_is_held_out_once_and_never_trained_on_then(count):
    names = [f"day{number}" for number in range(count)]
    folds = held_out(names, 5, 0)
    assert sorted(name for fold in folds for name in fold) == sorted(names)
    assert len(folds) == min(count, 5)
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert folds == held_out(names[::-1], 5, 0)
    assert count < 6 or folds != held_out(names, 5, 1)


def test_few_operations_get_a_probe_many_the_order_of_phases():
    assert make_plan(labels(3), has_gpu=False).head == "probe"
    assert make_plan(labels(12), has_gpu=False).head == "tcn"
    assert make_plan(labels(12, multi_label=True), has_gpu=False).head == "probe"


def test_an_adapter_is_trained_on_a_gpu_with_many_labels_only():
    assert make_plan(labels(40), has_gpu=False).head == "tcn"
    assert make_plan(labels(40), has_gpu=True).head == "lora"
    assert make_plan(labels(40, seconds=20.0), has_gpu=True).head == "tcn"


def test_the_encoder_fits_the_machine_unless_one_is_named():
    assert make_plan(labels(3), has_gpu=False).model == SMALL_ENCODER
    assert make_plan(labels(3), has_gpu=True).model == LARGE_ENCODER
    assert make_plan(labels(3), has_gpu=True, model="ours").model == "ours"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (labels(0), "no frame has a label"),
        (labels(1), "one labeled operation is not enough"),
        (labels(4, holders={"cut": ["day0"]}, class_seconds={"cut": 9.0}), "two classes at least"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused_with_the_reason(given, reason):
    assert reason in insufficient(given)
    with pytest.raises(InputError, match=reason):
        make_plan(given, has_gpu=False)


def test_weak_labels_are_trained_on_and_it_says_what_they_do_not_suffice_for():
    names = [f"day{number}" for number in range(3)]
    weak = labels(3, holders={"cut": names, "sew": ["day1"]}, class_seconds={"cut": 20.0, "sew": 500.0})
    text = " ".join(weaknesses(weak))
    assert "3 labeled operations are few" in text
    assert "'sew': labeled in one operation only" in text
    assert "'cut': less than a minute" in text
    assert weaknesses(labels(9)) == []
    assert make_plan(weak, has_gpu=False).warnings == tuple(weaknesses(weak))


def test_a_head_of_one_class_a_frame_is_refused_for_several():
    with pytest.raises(InputError, match="take the head probe"):
        make_plan(labels(8, multi_label=True), has_gpu=False, head="tcn")


def test_an_adapter_for_few_operations_is_refused():
    with pytest.raises(InputError, match="there are 9: take the head probe or tcn"):
        make_plan(labels(9), has_gpu=True, head="lora")


def test_operations_of_one_patient_are_held_out_together():
    names = [f"day{number}" for number in range(12)]
    patients = {name: str(number // 2) for number, name in enumerate(names[:8])}
    folds = held_out(names, 5, 0, patients)
    assert sorted(name for fold in folds for name in fold) == sorted(names)
    for patient in set(patients.values()):
        assert len([fold for fold in folds if any(patients.get(name) == patient for name in fold)]) == 1


def test_operations_of_a_single_patient_cannot_be_tested():
    amounts = labels(4)
    with pytest.raises(InputError, match="of one patient"):
        make_plan(amounts, has_gpu=False, head="probe", patients=dict.fromkeys(amounts.seconds, "7"))
