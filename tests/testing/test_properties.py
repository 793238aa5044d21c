"""The search for counterexamples: reproducible, as wide as asked, and it finds them."""

import pytest
import torch
from hypothesis import strategies as st

from kss.claims.registry import CheckFailed
from kss.testing.effort import Effort, current_effort, effort
from kss.testing.properties import for_all


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cases_of(seed: int, examples: int = 30) -> list[float]:
    seen: list[float] = []
    for_all(st.floats(-1e6, 1e6), seen.append, generator=seeded(seed), examples=examples)
    return seen


def test_the_cases_follow_from_the_generator():
    assert cases_of(1) == cases_of(1)
    assert cases_of(1) != cases_of(2)
    generator = seeded(1)
    before = generator.get_state()
    for_all(st.integers(), lambda _: None, generator=generator, examples=3)
    assert not torch.equal(generator.get_state(), before)  # the next search sees other cases


def test_it_counts_what_it_tried():
    seen = []
    assert for_all(st.integers(), seen.append, generator=seeded(), examples=25) == {"cases": 25}
    assert len(seen) == 25


def test_effort_multiplies_the_cases():
    with effort(Effort(examples=3.0)):
        assert current_effort().examples == 3.0
        assert for_all(st.integers(), lambda _: None, generator=seeded(), examples=20) == {"cases": 60}
    assert current_effort() == Effort()
    with effort(Effort(examples=0.001)):
        assert for_all(st.integers(), lambda _: None, generator=seeded(), examples=20) == {"cases": 1}


def test_effort_is_put_back_after_an_error():
    with pytest.raises(ZeroDivisionError), effort(Effort(examples=9.0)):
        raise ZeroDivisionError
    assert current_effort().examples == 1.0


def planted(value: int) -> None:
    if value >= 1000:
        raise CheckFailed(f"planted: {value}")


def test_it_finds_a_planted_counterexample_and_raises_what_the_check_raised():
    with pytest.raises(CheckFailed, match="planted"):
        for_all(st.integers(0, 10**6), planted, generator=seeded(), examples=200)


def test_it_shrinks_only_where_that_was_asked_for():
    with effort(Effort(shrink=True)), pytest.raises(CheckFailed, match=r"planted: 1000\n"):
        for_all(st.integers(0, 10**6), planted, generator=seeded(), examples=200)


def test_other_exceptions_come_through():
    with pytest.raises(ZeroDivisionError):
        for_all(st.just(0), lambda value: 1 // value, generator=seeded())


def test_nothing_is_remembered_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckFailed):
        for_all(st.integers(0, 10**6), planted, generator=seeded(), examples=200)
    assert list(tmp_path.iterdir()) == []
