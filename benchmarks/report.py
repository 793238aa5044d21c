"""The machine, the file of results, and its tables."""

import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

RESULTS = {"cpu": Path(__file__).parent / "results.json", "cuda": Path(__file__).parent / "results-cuda.json"}
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pykeops", "faiss-cpu")
Cells = Sequence[str]


def machine(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores, threads in use, graphics card if that is where the data live, versions, date."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    useful = ("avx2", "avx512f", "amx_tile", "amx_bf16", "neon", "asimd")
    flags = [flag for flag in named.get("flags", "").split() if flag in useful]
    return {
        "processor": named.get("model name") or platform.processor() or platform.machine(),
        "instructions": flags,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "card": torch.cuda.get_device_name() if device == "cuda" else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def save(results: Mapping[str, Any], path: Path) -> None:
    """The results as JSON, numbers to five digits, and beside them the tables as Markdown."""
    path.write_text(json.dumps(_rounded(results), indent=1) + "\n", encoding="utf-8")
    pages = [f"## {title}\n\n{markdown(head, rows)}" for title, head, rows in tables(results)]
    path.with_suffix(".md").write_text(f"# Benchmarks\n\n{describe(results)}\n\n" + "\n\n".join(pages) + "\n", encoding="utf-8")


def load(path: Path = RESULTS["cpu"]) -> dict[str, Any]:
    """The results that `save` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def describe(results: Mapping[str, Any]) -> str:
    """Where and when, in a sentence or two."""
    about = results["machine"]
    what = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    card = f"one {about['card']}, beside " if about.get("card") else ""
    text = (
        f"Measured on {about['date']} on {card}{about['cores']} cores ({about['processor']}, {', '.join(about['instructions'])}; "
        f"{about['system']}), {about['threads']} threads, with Python {about['python']}, {what}."
    )
    return text + (" A quick run: small problems, few rounds." if results["quick"] else "")


def milliseconds(seconds: float) -> str:
    """To three digits."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def times(ratio: float) -> str:
    """A ratio to two digits."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def shape_of(row: Mapping[str, Any]) -> str:
    """Number of points, dimension, number of queries."""
    return f"{row['points']}, {row['dim']}, {row['queries']}"


def _entry(found: Mapping[str, Any], queries: int) -> str:
    if not found["installed"]:
        return "not installed"
    return f"{milliseconds(found['seconds'])}{'^' if found['queries'] < queries else ''} (x {times(found['times ours'])})"


def posterior_table(rows: Sequence[Mapping[str, Any]]) -> tuple[Cells, list[Cells]]:
    """Milliseconds of every method, and in brackets by how many times they exceed those of the package."""
    names = list(rows[0]["methods"])
    head = ["data", "N, d, B", "dtype", "floor", "of floor", names[0], *names[1:]]
    body = []
    for row in rows:
        ours = row["methods"][names[0]]
        entries = [_entry(row["methods"][name], row["queries"]) for name in names[1:]]
        least = 4 * row["queries"] * row["points"] * row["dim"] / row["gemm"] + row["queries"] * row["points"] / row["exp"]
        first = [milliseconds(least), f"{ours['fraction']:.2f}", milliseconds(ours["seconds"])]
        body.append([row["data"], shape_of(row), row["dtype"], *first, *entries])
    return head, body


def small_noise_tables(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Cells, list[Cells]]]:
    """For each problem milliseconds over noise variances, in brackets relative to all points, and the relative error of the score."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        title = f"Leaving points out: {row['data']}, N, d, B = {shape_of(row)}, {row['dtype']}, tolerance {row['tol']:g}"
        grouped.setdefault(title, []).append(row)
    found = []
    for title, group in grouped.items():
        names = list(group[0]["methods"])
        head = ["t", *(column for name in names for column in (f"{name}, ms", "error"))]
        body = [[f"{row['t']:g}", *(cell for name in names for cell in _small_noise_cells(row["methods"], name))] for row in group]
        found.append((title, head, body))
    return found


def _small_noise_cells(methods: Mapping[str, Any], name: str) -> Cells:
    if not methods[name]["installed"]:
        return "not installed", ""
    return f"{milliseconds(methods[name]['seconds'])} (x {methods[name]['times ours']:.2f})", f"{methods[name]['error']:.0e}"


def tables(results: Mapping[str, Any]) -> list[tuple[str, Cells, list[Cells]]]:
    """Title, head and body of a table for everything that was measured."""
    found: list[tuple[str, Cells, list[Cells]]] = []
    if rows := results.get("posterior"):
        found.append(("Posterior means at t = 1, milliseconds (^ measured on fewer queries and scaled)", *posterior_table(rows)))
    if rows := results.get("times"):
        head = ["data", "N, d, B", *(f"t = {t}" for t in rows[0]["times t = 1"])]
        body = [[row["data"], shape_of(row), *(f"{value:.2f}" for value in row["times t = 1"].values())] for row in rows]
        found.append(("Time at noise variance t by that at t = 1, float64", head, body))
    if rows := results.get("small_noise"):
        found.extend(small_noise_tables(rows))
    if rows := results.get("density"):
        head = ["data", "N, d, B", "method", "ms", "times ours", "median error", "largest error"]
        body = [
            [
                row["data"],
                shape_of(row),
                name,
                milliseconds(m["seconds"]),
                times(m["times ours"]),
                f"{m['median error']:.1g}",
                f"{m['largest error']:.1g}",
            ]
            for row in rows
            for name, m in row["methods"].items()
        ]
        found.append(("Log-density, float64", head, body))
    if rows := results.get("mollified"):
        head = ["dtype", "N, d, B, nodes", "method", "ms", "by plain score", "by factorized"]
        body = [
            [
                *(row["dtype"], f"{shape_of(row)}, {row['nodes']}", name, milliseconds(m["seconds"])),
                *(times(m["seconds"] / row["methods"]["plain score"]["seconds"]), times(m["times ours"])),
            ]
            for row in rows
            for name, m in row["methods"].items()
        ]
        found.append(("A mollified score", head, body))
    if rows := results.get("sampling"):
        body = [[row["dtype"], str(row["samples"]), str(row["steps"]), f"{row['seconds']:.3g}"] for row in rows]
        found.append(("Reverse diffusion on the digits", ["dtype", "samples", "steps", "seconds"], body))
    if rows := results.get("precision"):
        head = ["data", "N, d", "place", *(f"t = {t:g}" for t in sorted({row["t"] for row in rows}))]
        grouped: dict[tuple[str, str, str], list[str]] = {}
        for row in rows:
            grouped.setdefault((row["data"], f"{row['points']}, {row['dim']}", row["place"]), []).append(f"{row['error']:.1g}")
        found.append(("Largest relative error of the score in float32", head, [[*key, *errors] for key, errors in grouped.items()]))
    if rows := results.get("memory"):
        body = [[shape_of(row), f"{row['bytes'] / 2**20:.1f}"] for row in rows]
        found.append(("Memory of one call beyond the prepared data", ["N, d, B", "MiB"], body))
    return found


def markdown(head: Cells, body: Sequence[Cells]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join(lines)
