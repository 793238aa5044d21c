"""Command line: `python -m kss verify [ID ...]`.

Exit codes: 0 everything asked for passed; 1 a check failed, could not run or let a mutant pass, or the ledger is
inconsistent; 2 the command was not understood (an unknown id among them).
"""

import secrets
import sys
from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
except ModuleNotFoundError as missing:
    print(f"python -m kss needs {missing.name}: pip install 'kernel-smoothed-scores[verify]'", file=sys.stderr)
    sys.exit(2)

from kss.claims import LEDGER
from kss.claims.audit import audit
from kss.claims.evidence import DEFAULT_PATH, merge
from kss.claims.report import Report, line_of
from kss.claims.runner import run, select_checks

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Kernel-smoothed scores: run the ledger of claims.")


@app.callback()
def main() -> None:
    """Kernel-smoothed scores: run the ledger of claims."""


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


if __name__ == "__main__":
    app(prog_name="python -m kss")
