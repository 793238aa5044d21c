"""What a full run asks of the ledger as a whole, besides every check passing."""

import re
from pathlib import Path

from kss.claims.registry import Registry

ALPHA_TOTAL = 1e-6
"""Probability, summed over all checks, that a full run rejects something true."""
OPEN_SHARE = 0.1
"""Largest share of the ledger that may be open."""

_BOX = re.compile(r"^(?:`{3,}|:{3,})\{claim\}\s+(\S+)", re.MULTILINE)
_ROLE = re.compile(r"\{claim\}`([^`]+)`")


def audit(registry: Registry, book: Path | None = None) -> list[str]:
    """Everything wrong with the ledger, one line each; with `book`, the folder of chapters, also where they disagree."""
    problems = []
    for entry in registry.claims.values():
        checks = registry.checks_of(entry.id)
        for above in entry.uses:
            if above not in registry.claims:
                problems.append(f"{entry.id}: uses the unknown id {above}")
        if entry.id in registry.ancestors(entry.id):
            problems.append(f"{entry.id}: rests on itself")
        if not entry.chapter:
            problems.append(f"{entry.id}: has no chapter")
        if entry.verdict != "open":
            if not checks:
                problems.append(f"{entry.id}: has no check")
            elif not any(mutant.breaks_kss for check in checks for mutant in check.mutants.values()):
                problems.append(f"{entry.id}: no mutant breaks the kss function itself")
            problems.extend(f"{entry.id}: check {check.name} has no mutant" for check in checks if not check.mutants)
    alpha = sum(check.alpha for check in registry.all_checks())
    if alpha > ALPHA_TOTAL:
        problems.append(f"alpha sums to {alpha:.3g}, more than {ALPHA_TOTAL:g}")
    undecided = [entry.id for entry in registry.claims.values() if entry.verdict == "open"]
    if len(undecided) > OPEN_SHARE * len(registry.claims):
        problems.append(f"{len(undecided)} of {len(registry.claims)} claims are open, more than a tenth: {', '.join(undecided)}")
    if book is not None:
        problems.extend(_audit_book(registry, book))
    return problems


def _audit_book(registry: Registry, book: Path) -> list[str]:
    problems = []
    boxes: dict[str, list[str]] = {}
    for page in sorted(book.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for found in _BOX.findall(text):
            boxes.setdefault(found, []).append(page.stem)
        for found in _BOX.findall(text) + _ROLE.findall(text):
            if found not in registry.claims:
                problems.append(f"{page.name}: the claim {found} is not in the ledger")
    for entry in registry.claims.values():
        pages = boxes.get(entry.id, [])
        if entry.chapter and pages != [entry.chapter]:
            problems.append(f"{entry.id}: its box belongs on {entry.chapter}, and stands on {', '.join(pages) or 'no page'}")
    return problems
