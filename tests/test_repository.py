"""What surrounds the code on a public host: workflows, forms, citation, container. Elsewhere they run, here they are read."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import surgvista_hf

REPOSITORY = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def content(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_least_rights_a_time_limit_and_actions_of_a_fixed_major_version(workflow):
    found = content(workflow)
    assert found["permissions"] == {"contents": "read"}
    for name, job in found["jobs"].items():
        assert job["timeout-minutes"] <= 90, name
        assert set(job.get("permissions", {})) <= {"id-token", "pages"}
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_the_makefile_has(workflow):
    commands = [step["run"] for job in content(workflow)["jobs"].values() for step in job["steps"] if "run" in step]
    called = {word for line in "\n".join(commands).splitlines() for word in re.findall(r"^make ([a-z -]+)", line)}
    assert {target for line in called for target in line.split()} <= targets()


def test_the_workflows_test_every_python_that_the_project_names_and_the_lowest_versions():
    tests = content(REPOSITORY / ".github" / "workflows" / "tests.yml")["jobs"]
    named = [match[1] for entry in PROJECT["classifiers"] if (match := re.search(r":: (3\.\d+)$", entry))]
    assert tests["tests"]["strategy"]["matrix"]["python"] == named
    assert any("make test-lowest" in step.get("run", "") for step in tests["lowest"]["steps"])


def test_a_release_is_published_without_a_stored_token():
    text = (REPOSITORY / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    publish = yaml.safe_load(text)["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in text
    assert "password" not in text


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_complete(form):
    found = content(form)
    if form.stem == "config":
        assert set(found) == {"blank_issues_enabled"}
        return
    assert {"name", "description", "body"} <= set(found)
    identifiers = [field["id"] for field in found["body"] if field["type"] != "markdown"]
    assert len(identifiers) == len(set(identifiers)) >= 1
    assert all(field["attributes"].get("label") or field["type"] == "markdown" for field in found["body"])


def test_forms_for_bugs_and_questions_ask_for_no_patients():
    for name in ("bug", "question"):
        assert "Never attach recordings or images of patients" in (FORMS[0].parent / f"{name}.yml").read_text()


def test_the_citation_is_that_of_this_version_and_names_the_paper():
    citation = content(REPOSITORY / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert str(citation["version"]) == PROJECT["version"] == surgvista_hf.__version__
    assert citation["license"] == PROJECT["license"]
    assert "10.1038/s41746-026-02403-0" in [reference["doi"] for reference in citation["references"]]


def test_the_container_copies_what_exists_and_runs_as_nobody_special():
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in line.split()]
    sent = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == sent
    assert [name for name in copied if not (REPOSITORY / name).exists()] == []
    assert set(PROJECT.get("license-files", [])) <= set(copied)
    extras = re.search(r"'\.\[([\w,]+)\]'", text)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE)[-1] != "root"
    assert re.search(r"HF_HOME=/cache", text)
    assert "accelerate" in text


@pytest.mark.parametrize(
    "name", ["SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", ".github/pull_request_template.md"]
)
def test_whoever_takes_part_finds_the_rules(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert "patient" in text
    assert len(text) > 300
