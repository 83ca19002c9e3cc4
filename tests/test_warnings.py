"""Warnings of our own making fail the tests, as pytest's configuration says."""

import warnings

import pytest


@pytest.mark.parametrize("module", ["surgvista_hf.clips.dataset", "tests.clips.test_dataset"])
def test_a_warning_that_is_attributed_to_our_code_is_an_error(module):
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn_explicit("ours", UserWarning, f"{module}.py", 1, module=module)


def test_a_warning_of_another_library_is_none():
    with warnings.catch_warnings(record=True) as seen:
        warnings.warn_explicit("theirs", UserWarning, "peft.py", 1, module="peft.utils")
    assert [str(each.message) for each in seen] == ["theirs"]
