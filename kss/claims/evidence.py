"""What has been run, and the status that follows from it.

Evidence is a JSON file, merged per check. Each check is keyed by a hash of the code it exercises: the source of every
`kss` module its own module imports, directly or not, and the versions of the libraries it runs on. A record whose key is
not today's is stale. Status is never stored as a fact: whoever reads the file computes it again from the keys.
"""

import functools
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from kss.claims.registry import LEDGER, Check, Claim, Registry
from kss.claims.runner import Result

Status = Literal["checked", "quick lane only", "not run here", "stale", "failing", "open"]

DEFAULT_PATH = Path("_build/evidence.json")
LIBRARIES = ("kernel-smoothed-scores", "hypothesis", "numpy", "python-flint", "scipy", "sympy", "torch")


def versions() -> dict[str, str]:
    """Versions of everything a check's outcome can depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@functools.cache
def _exercised(module: str) -> tuple[str, ...]:
    """The `kss` modules that `module` imports, directly or not, itself and the runner included."""
    import grimp

    graph = grimp.build_graph("kss", cache_dir=None)
    # Importing kss.a.b runs kss/a/__init__.py; that of kss.claims only enters the other chapters' claims.
    needed, pending = set[str](), [module, "kss.claims.runner"]
    while pending:
        current = pending.pop()
        if current in needed or current == "kss.claims":
            continue
        needed.add(current)
        if current in graph.modules:
            pending.extend(graph.find_modules_directly_imported_by(current))
        if "." in current:
            pending.append(current.rpartition(".")[0])
    return tuple(sorted(needed))


@functools.cache
def _module_key(module: str) -> str:
    digest = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode())
    for name in _exercised(module):
        spec = find_spec(name)
        digest.update(name.encode())
        if spec is not None and spec.origin is not None:
            digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()[:16]


def key_of(check: Check) -> str:
    """The hash of the code that `check` exercises; modules outside `kss` (a user's, a test's) have the empty key."""
    module = check.function.__module__
    return _module_key(module) if module.split(".")[0] == "kss" else ""


def load(path: Path = DEFAULT_PATH) -> dict[tuple[str, str], dict[str, Any]]:
    """The records in the file, by claim id and check name; empty if there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {(entry["id"], record["name"]): record for entry in content["claims"] for record in entry["checks"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def record_of(result: Result) -> dict[str, Any]:
    """A result as it is written down."""
    check = result.check
    return {
        "name": check.name,
        "by": check.by,
        "lane": check.lane,
        "outcome": result.outcome,
        "numbers": _plain(result.numbers),
        "mutants": dict(result.mutants),
        "alpha": check.alpha,
        "detects": check.detects,
        "seconds": round(result.seconds, 3),
        "seed": result.seed,
        "message": result.message,
        "key": key_of(check),
    }


def merge(results: Iterable[Result], path: Path = DEFAULT_PATH, registry: Registry = LEDGER) -> None:
    """Add results to the file, each replacing the record of the same check; safe against other writers and crashes."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        records = load(path) | {(r.check.claim, r.check.name): record_of(r) for r in results}
        content = json.dumps(summary(registry, records), indent=1, ensure_ascii=False) + "\n"
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(temporary, path)


def summary(registry: Registry, records: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """The ledger with its evidence: what the file holds and what the book reads."""
    return {
        "claims": [
            {
                "id": entry.id,
                "verdict": entry.verdict,
                "status": status(entry, registry, records),
                "ancestors_checked": ancestors_checked(entry, registry, records),
                "chapter": entry.chapter,
                "checks": [records[entry.id, check.name] for check in registry.checks_of(entry.id) if (entry.id, check.name) in records],
            }
            for entry in registry.claims.values()
        ],
        "alpha_total": sum(check.alpha for check in registry.all_checks()),
        "versions": versions(),
    }


def status(entry: Claim, registry: Registry, records: dict[tuple[str, str], dict[str, Any]]) -> Status:
    """What the evidence says of a claim today."""
    if entry.verdict == "open":
        return "open"
    checks = registry.checks_of(entry.id)
    found = [(check, records[entry.id, check.name]) for check in checks if (entry.id, check.name) in records]
    fresh = [(check, record) for check, record in found if record.get("key") == key_of(check)]
    if any(not _passed(check, record) for check, record in fresh):
        return "failing"
    if len(fresh) < len(found):
        return "stale"
    if not fresh:
        return "not run here"
    return "checked" if len(fresh) == len(checks) else "quick lane only"


def ancestors_checked(entry: Claim, registry: Registry, records: dict[tuple[str, str], dict[str, Any]]) -> bool:
    """Whether every claim that this one rests on is checked."""
    return all(
        above in registry.claims and status(registry.claims[above], registry, records) == "checked"
        for above in registry.ancestors(entry.id)
    )


def _passed(check: Check, record: dict[str, Any]) -> bool:
    fates = record.get("mutants", {})
    return record.get("outcome") == "passed" and all(fates.get(name) == "killed" for name in check.mutants)


def _plain(value: Any) -> Any:
    """Numbers as JSON has them; tensors and arrays become lists, anything else its text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    return str(value)
