"""The examples in the docstrings of `kss` run, and say what they say."""

import doctest
import importlib
import pkgutil

import pytest

import kss


class Finder(doctest.DocTestFinder):
    """Finds functions behind the wrapper that checks their types, too."""

    def _from_module(self, module, object):
        return getattr(object, "__module__", module.__name__) == module.__name__


MODULES = [name for _, name, _ in pkgutil.walk_packages(kss.__path__, "kss.") if not name.endswith("__main__")]


def examples_of(name: str) -> list[doctest.DocTest]:
    return [test for test in Finder(exclude_empty=True).find(importlib.import_module(name)) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    for test in examples_of(name):
        said = []
        doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
        assert not said, "".join(said)


def test_examples_are_found_at_all():
    found = {test.name for name in MODULES for test in examples_of(name)}
    assert {"kss.distributions.circle.Circle", "kss.distributions.gaussian.Gaussian", "kss.claims.verify"} <= found
