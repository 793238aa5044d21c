"""Small ledgers to break."""

from kss.claims.registry import CheckFailed, Registry, instead, returns
from kss.theory import heat

RIGHT = {"sign": returns(lambda value, *_: -value), "missing square": instead(lambda t: -1 / t**2)}


def enter(
    registry: Registry, id: str = "scratch.bound", chapter: str = "page", verdict: str = "holds", uses=(), missing="", regime="t > 0"
):
    """A claim, entered."""
    data = {"title": "T", "statement": "$s$", "source": "this project", "regime": regime}
    return registry.claim(id, chapter=chapter, verdict=verdict, uses=tuple(uses), missing=missing, **data)


def attach(registry: Registry, id: str = "scratch.bound", name: str = "at_two", mutants=RIGHT, function=None, **options):
    """A check of a claim, entered: that `hessian_bound(2) = -1/2`, unless `function` is given."""

    def honest(predict=heat.hessian_bound, *, generator):
        if predict(2.0) != -0.5:
            raise CheckFailed(f"predicted {predict(2.0)}")
        return {"value": predict(2.0)}

    function = function or honest
    function.__name__ = name
    registry.check(id, by=options.pop("by", "property"), mutants=mutants, **options)(function)
    return registry.checks_of(id)[-1]


def ledger(**options) -> Registry:
    """One claim with one check that passes and kills both its mutants."""
    registry = Registry()
    enter(registry, **options)
    attach(registry)
    return registry
