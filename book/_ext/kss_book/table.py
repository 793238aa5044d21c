"""The ledger as a table, whole or in part. Complete without a script; `kss-ledger.js` adds the filters."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from docutils import nodes

from kss.claims import evidence
from kss.claims.audit import ALPHA_TOTAL
from kss.claims.registry import Claim, Registry
from kss_book.box import Records, killed, plural, state_of
from kss_book.markup import claim_number, element, link_to_claim, status_word

PART = ("Claim", "Verdict", "Status", "Checked by")
HEADS = ("No.", "Claim", "Verdict", "Status", "Rests on", "Checked by", "Checks run", "Mutants killed")


def ledger(registry: Registry, records: Records, path: Path) -> list[nodes.Node]:
    """The totals, and every claim in a row."""
    head = element("thead", element("tr", *(element("th", nodes.Text(name), scope="col") for name in HEADS)))
    body = element("tbody", *(_row(entry, registry, records) for entry in registry.claims.values()))
    full = element("table", head, body, classes="kss-ledger")
    scroll = element("div", full, classes="kss-scroll", role="region", tabindex="0", **{"aria-label": "Table of all claims"})
    return [_totals(registry, records, path), scroll]


def findings(entries: Sequence[Claim], registry: Registry, records: Records) -> nodes.Node:
    """Some claims, each with its verdict, its status and the kinds of its checks."""
    head = element(
        "thead", element("tr", *(element("th", nodes.Text(name), scope="col") for name in ("Claim", "Verdict", "Status", "Checked by")))
    )
    rows = []
    for entry in entries:
        kinds = sorted({check.by for check in registry.checks_of(entry.id)})
        status = status_word(evidence.status(entry, registry, dict(records)))
        cells = (link_to_claim(entry.id), nodes.Text(entry.verdict), status, nodes.Text(", ".join(kinds) or "no check"))
        rows.append(element("tr", *(element("td", cell) for cell in cells)))
    full = element("table", head, element("tbody", *rows), classes="kss-findings")
    return element("div", full, classes="kss-scroll", role="region", tabindex="0", **{"aria-label": "Claims and findings"})


def _row(entry: Claim, registry: Registry, records: Records) -> nodes.Node:
    checks, status = registry.checks_of(entry.id), evidence.status(entry, registry, dict(records))
    kinds = sorted({check.by for check in checks})
    run = sum(state_of(check, records) not in ("not run here", "stale") for check in checks)
    dead, mutants = sum(killed(check, records) for check in checks), sum(len(check.mutants) for check in checks)
    above = evidence.ancestors_checked(entry, registry, dict(records))
    rests = "nothing else" if not entry.uses else f"{plural(len(entry.uses), 'claim')}, {'' if above else 'not '}all checked"
    name = element("code", nodes.Text(entry.id), classes="kss-id")
    cells: list[list[nodes.Node]] = [
        [claim_number("", target=entry.id)],
        [link_to_claim(entry.id), nodes.Text(" "), name],
        [nodes.Text(entry.verdict)],
        [status_word(status)],
        [nodes.Text(rests)],
        [nodes.Text(", ".join(kinds) or "no check")],
        [nodes.Text(f"{run} of {len(checks)}")],
        [nodes.Text(f"{dead} of {mutants}")],
    ]
    data = {"data-chapter": entry.chapter, "data-status": status, "data-kind": "|".join(kinds), "data-verdict": entry.verdict}
    return element("tr", *(element("td", *cell) for cell in cells), **data)


def _totals(registry: Registry, records: Records, path: Path) -> nodes.Node:
    claims, checks = list(registry.claims.values()), registry.all_checks()
    states: Mapping[str, int] = Counter(evidence.status(entry, registry, dict(records)) for entry in claims)
    waiting = [check for check in checks if state_of(check, records) in ("not run here", "stale")]
    dead, mutants = sum(killed(c, records) for c in checks), sum(len(c.mutants) for c in checks)
    alpha = sum(check.alpha for check in checks)
    rows = [
        ("Claims", f"{len(claims)}: " + ", ".join(f"{n} {state}" for state, n in states.items())),
        ("Checks", f"{len(checks)}, of which {len(checks) - len(waiting)} have run here on today's code"),
        ("Mutants", f"{dead} of {mutants} killed"),
        ("False alarm", f"at most {alpha:.2g} for all statistical checks together; {ALPHA_TOTAL:.0e} is allowed"),
        ("Ran", _when(path)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in evidence.versions().items())),
    ]
    node = element("dl", classes="kss-facts kss-totals")
    for name, text in rows:
        node += [element("dt", nodes.Text(name)), element("dd", element("p", nodes.Text(text)))]
    if waiting:
        node += element("dt", nodes.Text("Not run here"))
        text = f"{plural(len(waiting), 'check')}. This runs them: "
        node += element("dd", element("p", nodes.Text(text), nodes.literal("", "python -m kss verify")))
    return node


def _when(path: Path) -> str:
    if not path.is_file():
        return "nothing has run on this machine"
    return f"last on {datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC, on the machine that built these pages"
