"""`python -m benchmarks`: measure, write `results.json` and `results.md`, and print the tables."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks import experiments, guarantees, report

EXPERIMENTS: dict[str, Callable[[experiments.Plan, bool], Iterator[dict[str, Any]]]] = {
    "posterior": lambda plan, quick: experiments.posterior(plan),
    "times": lambda plan, quick: experiments.times(plan),
    "small_noise": lambda plan, quick: experiments.small_noise(plan),
    "density": lambda plan, quick: experiments.density(plan),
    "mollified": lambda plan, quick: experiments.mollified(plan),
    "sampling": lambda plan, quick: experiments.sampling(plan),
    "precision": lambda plan, quick: guarantees.precision(quick),
    "memory": lambda plan, quick: guarantees.memory(list(plan.memory)),
}


ON_A_CARD = ("posterior", "times", "mollified", "sampling")
"""What is measured where the data live on a graphics card: the rest compares with libraries of the processor, or is about its memory."""


def main(
    quick: Annotated[bool, typer.Option(help="Small problems and few rounds: a minute, for trying.")] = False,
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(EXPERIMENTS)}; can be repeated. Other results stay.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; all cores if omitted.")] = None,
    device: Annotated[str, typer.Option(help="Where the data live: cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="The file of results; the tables go beside it, as Markdown.")] = None,
) -> None:
    """Time the engine beside what people would use instead."""
    if device not in report.RESULTS or (device == "cuda" and not torch.cuda.is_available()):
        raise typer.BadParameter(f"device {device} is not here; expected {' or '.join(report.RESULTS)}")
    out = out or report.RESULTS[device]
    if unknown := set(only or ()) - set(EXPERIMENTS):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(EXPERIMENTS)}")
    if threads is not None:
        torch.set_num_threads(threads)
    plan = replace(experiments.QUICK if quick else experiments.FULL, device=device)
    results: dict[str, Any] = {"machine": report.machine(device), "quick": quick}
    if only and out.exists():
        results = report.load(out) | results
    progress = tqdm(only or (ON_A_CARD if device == "cuda" else list(EXPERIMENTS)))
    for name in progress:
        rows = []
        for row in EXPERIMENTS[name](plan, quick):
            rows.append(row)
            progress.set_description(f"{name}: {len(rows)} rows")
        results[name] = rows
        report.save(results, out)
    console = Console()
    console.print(report.describe(results))
    for title, head, body in report.tables(results):
        table = Table(*head, title=title, title_justify="left")
        for row in body:
            table.add_row(*row)
        console.print(table)


typer.run(main)
