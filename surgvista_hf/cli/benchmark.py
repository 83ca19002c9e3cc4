"""`surgvista benchmark`: a suite of models, data sets and protocols."""

import argparse
import contextlib
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n"
        "  surgvista benchmark --list\n"
        "  surgvista benchmark surgvista13 --dry-run\n"
        "  surgvista benchmark --show synthetic > mine.yaml\n"
        "  surgvista benchmark mine.yaml 'seeds=[0,1,2]' output=benchmarks/mine\n"
        "The same command goes on with a suite that was stopped."
    )
    parser.add_argument("suite", nargs="?", help="YAML file, or a suite of the package")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values of the suite to change")
    parser.add_argument("--list", action="store_true", help="name the suites of the package")
    parser.add_argument("--show", metavar="NAME", help="print a suite of the package, to start from")
    parser.add_argument("--dry-run", action="store_true", help="say of every cell what running it would do")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(arguments: argparse.Namespace) -> None:
    from ..modeling.errors_surgvista import InputError
    from ..trainers.recipe_files import SUITES, bundled_recipes, bundled_text
    from ..trainers.suite import load_suite

    if arguments.list:
        print("\n".join(bundled_recipes(SUITES)))
        return
    if arguments.show:
        print(bundled_text(arguments.show, (SUITES,)), end="")
        return
    if not arguments.suite:
        raise InputError("give a suite; `surgvista benchmark --list` names those of the package")
    suite = load_suite(arguments.suite, arguments.overrides)
    from ..evaluation.benchmark_report import markdown, summarise
    from ..trainers.benchmark import plan_suite, run_suite

    if arguments.dry_run:
        states = plan_suite(suite)
        for state in states:
            print(f"{'CANNOT RUN' if state.broken else state.state:10}  {state.cell.name}: {state.plan}")
        broken = sum(state.broken for state in states)
        if broken:
            raise InputError(f"{broken} of {len(states)} cells cannot be run")
        return
    with contextlib.redirect_stdout(sys.stderr):  # what training says is no result
        results = run_suite(suite)
    if arguments.json:
        print((suite.output / "summary.json").read_text(encoding="utf-8"), end="")
        return
    print(markdown(summarise(results, suite.baseline), suite.baseline))
    print(f"written: {suite.output}/summary.json, tables.md, tables.tex and plots")
