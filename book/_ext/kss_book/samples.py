"""Made-up claims in every state, for the style page: same registry, same status, same box as the real ones."""

from typing import Any

from kss.claims.registry import Registry, Verdict, instead
from kss.theory import heat
from kss_book.box import Records

_CASES: tuple[tuple[str, str, Verdict, dict[str, str]], ...] = (
    # id, what the sample shows, verdict, outcome by check
    ("sample.checked", "Every check has passed", "holds", {"quick": "passed", "full": "passed"}),
    ("sample.regime", "True under the hypotheses stated", "holds in regime", {"quick": "passed", "full": "passed"}),
    ("sample.refuted", "The published statement is wrong", "refuted as stated", {"quick": "passed", "full": "passed"}),
    ("sample.unreproduced", "The published numbers were not found again", "not reproduced", {"quick": "passed", "full": "passed"}),
    ("sample.quick", "Only the deterministic checks have run", "holds", {"quick": "passed"}),
    ("sample.unrun", "Nothing has run on this machine", "holds in regime", {}),
    ("sample.stale", "The code has changed since the checks ran", "holds", {"quick": "passed", "full": "stale"}),
    ("sample.failing", "A check disagrees with the statement", "holds", {"quick": "passed", "full": "failed"}),
    ("sample.survived", "A mutant passed: the check cannot fail", "holds", {"quick": "survived", "full": "passed"}),
    ("sample.open", "Nobody has computed it", "open", {}),
)


def samples() -> tuple[Registry, Records]:
    """A registry of made-up claims and the evidence that puts each into its state."""
    registry, records = Registry(), dict[tuple[str, str], dict[str, Any]]()
    for name, title, verdict, outcomes in _CASES:
        registry.claim(
            name,
            title=title,
            statement=r"$\displaystyle s_t(x) = \frac{m_t(x) - x}{t}$, or whatever is claimed.",
            regime=r"Every hypothesis, in words and symbols: $t > 0$, every $x \in \mathbb R^d$.",
            source="a paper, its version, its theorem",
            chapter="style",
            verdict=verdict,
            uses=("sample.unrun",) if name == "sample.regime" else ("sample.checked",) if name == "sample.stale" else (),
            missing="the integral that would settle it" if verdict == "open" else "",
        )
        if verdict == "open":
            continue
        mutant = {"sign": instead(lambda mean, x, t: (x - mean) / t)}
        registry.check(name, by="proof", mutants=mutant)(quick)
        registry.check(name, by="statistics", mutants=mutant, lane="full", alpha=1e-9, detects="a shift of 1 % with power 0.99")(full)
        for check in registry.checks_of(name):
            if (outcome := outcomes.get(check.name)) is not None:
                records[name, check.name] = {
                    "outcome": "failed" if outcome == "failed" else "passed",
                    "mutants": {"sign": "survived" if outcome == "survived" else "killed"},
                    "numbers": {"error": 3e-16},
                    "seconds": 0.1,
                    "message": "measured 1.02, predicted 1" if outcome == "failed" else "",
                    # The key of code outside kss is empty; any other is that of different code.
                    "key": "other code" if outcome == "stale" else "",
                }
    return registry, records


def quick(predict: Any = heat.score_from_mean, **_: Any) -> dict[str, Any]:
    """What the check does, in a sentence."""
    return {}


def full(predict: Any = heat.score_from_mean, **_: Any) -> dict[str, Any]:
    """The same by simulation."""
    return {}
