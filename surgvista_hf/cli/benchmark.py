"""`surgvista benchmark`: a suite of models, data sets and protocols."""

import argparse
from functools import partial

from .common import add_executor_options, add_recipe_arguments, executor_options, print_plan, was_shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista benchmark`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista benchmark --list\n"
        "  surgvista benchmark surgvista13 --dry-run\n"
        "  surgvista benchmark --show synthetic > mine.yaml\n"
        "  surgvista benchmark mine.yaml 'seeds=[0,1,2]' output=benchmarks/mine\n"
        "The same command goes on with a suite that was stopped."
    )
    add_recipe_arguments(parser, "suite")
    add_executor_options(parser, "cells")
    parser.add_argument("--dry-run", action="store_true", help="print for every cell what running it would do")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Run a suite, or list, show or check suites."""
    from ..trainers.benchmark.suite import load_suite
    from ..trainers.recipes.loading import SUITES

    if was_shown(arguments, SUITES):
        return
    execution = executor_options(arguments)
    suite = load_suite(arguments.recipe, arguments.overrides)
    from ..evaluation.reports.benchmark_report import markdown, summarize
    from ..trainers.benchmark.run import plan_suite, run_suite

    if arguments.dry_run:
        print_plan(partial(plan_suite, suite))
        return
    results = run_suite(suite, **execution)
    if arguments.json:
        print((suite.output / "summary.json").read_text(encoding="utf-8"), end="")
        return
    print(markdown(summarize(results, suite.baseline), suite.baseline))
    print(f"written: {suite.output}/summary.json, tables.md, tables.tex and plots")
