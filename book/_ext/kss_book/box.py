"""The box of a claim: the statement with every hypothesis, and what has been checked of it on this machine."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from docutils import nodes

from kss.claims import evidence
from kss.claims.registry import Check, Claim, Registry
from kss_book.markup import anchor, claim_box, claim_title, element, inline, ledger_link, link_to_claim, status_word

Records = Mapping[tuple[str, str], dict[str, Any]]
Parse = Callable[[str], list[nodes.Node]]
"""MyST text to nodes."""


def box(entry: Claim, registry: Registry, records: Records, parse: Parse, *, sample: bool = False) -> claim_box:
    """The box of a claim; a sample is not numbered and its links to claims are plain text."""
    status = evidence.status(entry, registry, dict(records))
    name = ("sample-" if sample else "") + anchor(entry.id)
    node = claim_box("", ids=[name], claim=entry.id, numbered=not sample)
    node["classes"] = ["kss-claim", "kss-status-" + status.replace(" ", "-"), "kss-verdict-" + entry.verdict.replace(" ", "-")]
    node += claim_title("", *inline(entry.title))
    node += element(
        "p",
        element("span", "Status: ", classes="kss-label"),
        status_word(status),
        element("span", "Verdict: ", classes="kss-label"),
        element("strong", entry.verdict, classes="kss-verdict"),
        element("code", nodes.Text(entry.id), classes="kss-id"),
        classes="kss-state",
    )
    node += element("div", *parse(entry.statement), classes="kss-statement")
    facts = [("Regime", parse(entry.regime)), ("Source", parse(entry.source)), ("Rests on", [_uses(entry, registry, records, sample)])]
    if entry.missing:
        facts.append(("Missing", parse(entry.missing)))
    node += element("dl", *(part for name, content in facts for part in _fact(name, content)), classes="kss-facts")
    if checks := registry.checks_of(entry.id):
        node += element("details", _summary(checks, records), *(_check(c, records) for c in checks), classes="kss-checks")
    if command := _command(entry, status, checks, records):
        node += command
    return node


def state_of(check: Check, records: Records) -> str:
    """What the evidence says of one check today."""
    record = records.get((check.claim, check.name))
    if record is None:
        return "not run here"
    if record["key"] != evidence.key_of(check):
        return "stale"
    if record["outcome"] != "passed":
        return str(record["outcome"])
    return "passed" if killed(check, records) == len(check.mutants) else "a mutant survived"


def killed(check: Check, records: Records) -> int:
    """How many mutants of a check today's code has been seen to kill."""
    record = records.get((check.claim, check.name))
    if record is None or record["key"] != evidence.key_of(check):
        return 0
    return sum(record["mutants"].get(name) == "killed" for name in check.mutants)


def plural(n: int, word: str) -> str:
    """`1 check`, `2 checks`."""
    return f"{n} {word}" + ("" if n == 1 else "s")


def _fact(name: str, content: list[nodes.Node]) -> list[nodes.Node]:
    return [element("dt", nodes.Text(name)), element("dd", *content)]


def _uses(entry: Claim, registry: Registry, records: Records, sample: bool) -> nodes.Node:
    if not entry.uses:
        return element("p", "no other claim")
    node = element("p")
    for i, above in enumerate(entry.uses):
        node += nodes.Text("; " if i else "")
        node += element("span", registry.claims[above].title) if sample else link_to_claim(above)
    done = evidence.ancestors_checked(entry, registry, dict(records))
    node += nodes.Text(" (all of it checked)" if done else " (not all of it checked)")
    return node


def _summary(checks: list[Check], records: Records) -> nodes.Node:
    run = sum(state_of(c, records) not in ("not run here", "stale") for c in checks)
    dead, mutants = sum(killed(c, records) for c in checks), sum(len(c.mutants) for c in checks)
    text = f"{plural(len(checks), 'check')}, {run} run; {dead} of {plural(mutants, 'mutant')} killed"
    return element("summary", nodes.Text(text))


def _check(check: Check, records: Records) -> nodes.Node:
    record, state = records.get((check.claim, check.name), {}), state_of(check, records)
    function = inspect.unwrap(check.function)
    link = ledger_link("", kind="source", target=function.__module__, line=function.__code__.co_firstlineno)
    link += nodes.Text("source of the check")
    seconds = f", {record['seconds']:.1f} s" if state == "passed" else ""
    head = element(
        "p",
        nodes.literal("", check.name),
        nodes.Text(f": {state}. By {check.by}, {check.lane} lane{seconds}. "),
        link,
        classes="kss-check-name",
    )
    facts: list[nodes.Node] = []
    if text := inspect.getdoc(function):
        facts += _fact("How", [element("p", " ".join(text.split("\n\n")[0].split()))])
    facts += _fact("Under test", [element("p", _tested(check))])
    fates = record.get("mutants", {}) if state not in ("not run here", "stale") else {}
    wrong = "; ".join(f"{name}: {fates.get(name, 'not run')}" for name in check.mutants)
    facts += _fact("Mutants", [element("p", nodes.Text(f"{killed(check, records)} of {len(check.mutants)} killed. {wrong}."))])
    if state not in ("not run here", "stale") and record.get("numbers"):
        facts += _fact("Numbers", [element("p", nodes.Text("; ".join(f"{k}: {number(v)}" for k, v in record["numbers"].items())))])
    if check.alpha:
        facts += _fact("False alarm", [element("p", nodes.Text(f"alpha = {check.alpha:.3g}"))])
    if check.detects:
        facts += _fact("Detects", [element("p", check.detects)])
    if state not in ("not run here", "stale") and record.get("message"):
        facts += _fact("Message", [element("pre", nodes.Text(record["message"].strip().splitlines()[-1]), tabindex="0")])
    return element("div", head, element("dl", *facts, classes="kss-facts"), classes="kss-check")


def _tested(check: Check) -> ledger_link:
    function = inspect.unwrap(check.predict)
    code = getattr(function, "__code__", None)
    link = ledger_link("", kind="source", target=function.__module__, line=code.co_firstlineno if code else 1)
    link += nodes.literal("", f"{function.__module__}.{getattr(function, '__qualname__', check.name)}")
    return link


def number(value: Any) -> str:
    """A number of the evidence, short."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        shown = ", ".join(number(v) for v in value[:6])
        return f"[{shown}{', ...' if len(value) > 6 else ''}]"
    if isinstance(value, dict):
        return ", ".join(f"{k} {number(v)}" for k, v in value.items())
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _command(entry: Claim, status: str, checks: list[Check], records: Records) -> nodes.Node | None:
    if status in ("checked", "open"):
        return None
    waiting = [c.name for c in checks if state_of(c, records) != "passed"]
    verb = "Not passing" if status == "failing" else "Not run on this machine with today's code"
    return element(
        "p",
        nodes.Text(f"{verb}: {', '.join(waiting)}. This runs it: "),
        nodes.literal("", f"python -m kss verify {entry.id}"),
        classes="kss-command",
    )
