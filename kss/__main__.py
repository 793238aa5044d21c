"""Command line: `python -m kss verify [ID ...]` for the ledger, `python -m kss check MODULE:OBJECT` for a score of your own.

Exit codes: 0 everything asked for passed; 1 a check failed, could not run or let a mutant pass, or the ledger is
inconsistent, or a check passed that was expected to fail; 2 the command was not understood (an unknown id among them, or
an object that is not a score).
"""

import importlib
import inspect
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError as missing:
    print(f"python -m kss needs {missing.name}: pip install 'kernel-smoothed-scores[verify]'", file=sys.stderr)
    sys.exit(2)

import numpy as np

from kss.claims import LEDGER
from kss.claims.audit import audit
from kss.claims.evidence import DEFAULT_PATH, merge
from kss.claims.report import Report, line_of
from kss.claims.runner import run, select_checks
from kss.testing import ScoreReport, check_score

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Kernel-smoothed scores: run the ledger of claims, or check a score of your own."""


@app.command()
def verify(
    ids: Annotated[list[str] | None, typer.Argument(help="Claim ids; all of them if none is given.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the deterministic checks, under a minute.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="A random seed, and ten times the search.")] = False,
    evidence: Annotated[Path, typer.Option(help="File that the results are merged into.")] = DEFAULT_PATH,
    book: Annotated[Path | None, typer.Option(help="Folder of chapters to hold against the ledger.")] = None,
) -> None:
    """Run the checks of claims with all their mutants, and write down what happened."""
    console = Console(stderr=True)
    try:
        claims = LEDGER.select(ids or [])
    except ValueError as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from error
    if book is not None and not book.is_dir():
        console.print(f"error: book = {book}: expected a folder of chapters", style="red", markup=False, highlight=False)
        raise typer.Exit(2)

    checks = select_checks(LEDGER, claims, "quick" if quick else "full")
    base_seed = secrets.randbelow(2**32) if deep else 0
    if deep:
        console.print(f"base seed {base_seed}", highlight=False)
    results = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("verifying", total=len(checks))
        for result in run(checks, base_seed=base_seed, examples=10.0 if deep else 1.0):
            results.append(result)
            progress.console.print(line_of(result), style=None if result.ok else "red", markup=False, highlight=False, soft_wrap=True)
            progress.advance(task)
    merge(results, evidence)

    # A partial run says nothing of the ledger as a whole.
    problems = [] if ids or quick else audit(LEDGER, book)
    for problem in problems:
        console.print(f"ledger: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    failed = sum(not result.ok for result in results)
    mutants = sum(len(result.mutants) for result in results)
    alpha = sum(check.alpha for check in checks)
    console.print(
        f"{len(claims)} claims, {len(results)} checks, {failed} not passed, {mutants} mutants, alpha {alpha:.2g}; evidence in {evidence}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if not Report(results).ok or problems:
        raise typer.Exit(1)


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="MODULE:OBJECT", help="A score, in a module that can be imported from here.")],
    dim: Annotated[int | None, typer.Option(help="Dimension; that of the data, or the object's own `dim`, if omitted.")] = None,
    data: Annotated[Path | None, typer.Option(help="Points (N, d) the score was made from, a .npy file.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="Points of the same law that it has not seen, a .npy file.")] = None,
    times: Annotated[str, typer.Option(help="Noise variances, separated by commas.")] = "0.01,0.1,1",
    seed: Annotated[int, typer.Option(help="Of the points, directions and draws.")] = 0,
    draws: Annotated[int, typer.Option(help="For each statistical test.")] = 20_000,
    expect_failure: Annotated[list[str] | None, typer.Option(metavar="NAME=REASON", help="A check that should fail, and why.")] = None,
    tolerance: Annotated[list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Allowed by you, instead of rounding.")] = None,
) -> None:
    """Check a score of your own: an object with score(x, t), or a function of x (n, d) and the noise VARIANCE t.

    A class, or a function of no arguments, is called first, and what it returns is the score.
    """
    console = Console(stderr=True)
    try:
        score = _load(target)
        seen, unseen = (None if path is None else _load_points(path) for path in (data, held_out))
        width = dim or next((points.shape[1] for points in (seen, unseen) if points is not None), None) or getattr(score, "dim", None)
        if width is None:
            raise ValueError("the dimension is not known: give --dim")
        report = check_score(
            score,
            dim=width,
            data=seen,
            held_out=unseen,
            times=[float(t) for t in times.split(",")],
            draws=draws,
            expected_failures=_pairs("--expect-failure", expect_failure),
            tolerances={name: float(value) for name, value in _pairs("--tolerance", tolerance).items()},
            generator=seed,
        )
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    _show(report)
    raise typer.Exit(report.exit_code)


def _load(target: str) -> Any:
    """The score that `module:object` names; `ValueError` if there is none."""
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f"{target}: expected MODULE:OBJECT, for instance my_model:score")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # the module is the user's, and so is whatever it raises
        raise ValueError(f"{target}: cannot import {module_name}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    for name in path.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{target}: {module_name} has no {path}")
        found = getattr(found, name)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "score") and _takes_nothing(found)):
        try:
            found = found()
        except Exception as error:
            raise ValueError(f"{target}: calling it without arguments raised {type(error).__name__}: {error}") from error
    if not callable(found) and not callable(getattr(found, "score", None)):
        raise ValueError(f"{target} is {found!r}: expected an object with a method score(x, t), or a function of x and t")
    return found


def _takes_nothing(function: Any) -> bool:
    try:
        return not inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _load_points(path: Path) -> np.ndarray:
    points = np.load(path, allow_pickle=False)
    if not isinstance(points, np.ndarray) or points.ndim != 2:
        raise ValueError(f"{path}: expected an array of shape (N, d) in a .npy file")
    return points


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    split = [text.partition("=") for text in given or []]
    for name, equals, value in split:
        if not (name and equals and value.strip()):
            raise ValueError(f"{option} {name}{equals}{value}: expected NAME=...")
    return {name: value for name, _, value in split}


def _show(report: ScoreReport) -> None:
    """The report as a table."""
    colors = {"passed": "green", "expected failure": "green", "failed": "red", "unexpected pass": "red"}
    table = Table("check", "outcome", "measured", "what was seen", title=Text(report.subject), title_justify="left")
    for result in report.results:
        style = colors.get(result.outcome, "dim")
        table.add_row(result.name, Text(result.outcome, style), result.numbers, Text(result.message), end_section=True)
    # Not on a terminal: as wide as the text needs, so that no line of a log is broken in odd places.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)
    console.print(report.summary, markup=False, highlight=False)


if __name__ == "__main__":
    app(prog_name="python -m kss")
