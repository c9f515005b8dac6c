"""``make bench``: runs the benchmarks that are here, prints one table, keeps a full run in docs/figures/."""

import argparse
import importlib
import pkgutil
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import benchmarks
from benchmarks.harness import QUICK_RUNS, RUNS, Benchmark, Effort, Failed
from benchmarks.report import Outcome, host, table, write

KEPT, SCRATCH = Path("docs/figures"), Path("build/benchmarks")


def main(argv: Sequence[str] | None = None) -> int:
    """0 if every figure has a ratio; whether targets are met is for the reader."""
    known = discover()
    arguments = _arguments(argv, list(known))
    if shutil.which("qemu-system-x86_64") is None:
        print("bench: qemu-system-x86_64 is not installed: there is nothing to compare with", file=sys.stderr)
        return 1
    conditions = host() | {"runs": arguments.runs, "quick": arguments.quick}
    effort = Effort(arguments.runs, arguments.quick)
    outcomes = [_outcome(name, known[name], effort) for name in arguments.name or known]
    print("\n".join(table(outcomes)))
    full = not arguments.quick and not arguments.name and arguments.runs >= RUNS
    write(directory := KEPT if full else SCRATCH, outcomes, conditions)
    print(f"\nwritten: {directory}/README.md, figures.svg, figures.json")
    return 0 if all(outcome.complete for outcome in outcomes) else 1


def discover() -> Mapping[str, Benchmark]:
    """Every module beside this one that has FIGURES and ``measure``, by name."""
    names = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__"]
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    return {
        name: cast(Benchmark, module)
        for name, module in modules.items()
        if hasattr(module, "FIGURES") and hasattr(module, "measure")
    }


def _outcome(name: str, benchmark: Benchmark, effort: Effort) -> Outcome:
    print(f"{name:<12}", end="", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        results, error = benchmark.measure(effort), None
    except Failed as failure:
        results, error = {}, str(failure)
    print(f" {time.monotonic() - start:.0f} s", file=sys.stderr)
    return Outcome(name, benchmark.FIGURES, results, error)


def _arguments(argv: Sequence[str] | None, names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"only these, of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="few and short runs, under 3 minutes in all")
    parser.add_argument("--runs", type=int, help=f"of each side (default: {RUNS}, quick: {QUICK_RUNS})")
    arguments = parser.parse_args(argv)
    arguments.runs = arguments.runs or (QUICK_RUNS if arguments.quick else RUNS)
    if unknown := set(arguments.name) - set(names):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: there are {', '.join(names)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
