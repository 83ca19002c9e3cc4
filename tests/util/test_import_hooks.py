"""Functions that run when a module has been imported."""

import importlib
import importlib.util
import inspect
import sys

import pytest

from surgvista_hf.util import import_hooks
from surgvista_hf.util.import_hooks import when_imported


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return the name of a module that nobody has imported, and that counts how often it ran."""
    name = f"imported_in_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)
    import_hooks._finder.waiting.pop(name, None)


def test_functions_run_in_their_order_when_somebody_imports_the_module_and_not_before(module):
    seen = []
    when_imported(module, lambda found: seen.append(("first", found.VALUE)))
    when_imported(module, lambda found: seen.append(("second", found.__name__)))
    assert seen == []
    assert module not in sys.modules
    importlib.import_module(module)
    assert seen == [("first", 3), ("second", module)]
    importlib.import_module(module)
    assert len(seen) == 2


def test_a_function_of_a_module_that_was_imported_before_runs_at_once(module):
    importlib.import_module(module)
    seen = []
    when_imported(module, seen.append)
    assert seen == [sys.modules[module]]


def test_a_function_that_is_added_while_the_module_runs_is_called_when_it_has_run(module, tmp_path):
    (tmp_path / f"{module}.py").write_text(
        "from surgvista_hf.util.import_hooks import when_imported\n"
        "SEEN = []\n"
        "when_imported(__name__, lambda found: SEEN.append(found.LAST))\n"
        "LAST = 'the end'\n"
    )
    when_imported(module, lambda found: found.SEEN.append("outside"))
    assert importlib.import_module(module).SEEN == ["outside", "the end"]


def test_a_module_keeps_what_tools_ask_of_it(module, tmp_path):
    when_imported(module, lambda found: None)
    found = importlib.import_module(module)
    assert inspect.getsource(found) == "VALUE = 3\n"
    assert found.__spec__.origin == found.__file__ == str(tmp_path / f"{module}.py")
    assert importlib.util.find_spec(module) is found.__spec__
    (tmp_path / f"{module}.py").write_text("VALUE = 'another'\n")
    assert importlib.reload(found).VALUE == "another"


def test_an_error_of_a_module_or_of_a_function_is_that_of_the_import(module, tmp_path):
    when_imported(module, lambda found: found.missing)
    with pytest.raises(AttributeError, match="missing"):
        importlib.import_module(module)
    assert module not in sys.modules
    (tmp_path / f"{module}.py").write_text("raise LookupError('broken')\n")
    importlib.invalidate_caches()
    with pytest.raises(LookupError, match="broken"):
        importlib.import_module(module)


def test_a_module_that_does_not_exist_is_missed_as_without_the_hook():
    when_imported("no_such_module_anywhere", lambda found: None)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        importlib.import_module("no_such_module_anywhere")
    import_hooks._finder.waiting.pop("no_such_module_anywhere")
