"""Owners get equal shares of the workers, whatever they ask for and since when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.jobs.shares import Shares


@given(st.lists(st.floats(0.01, 5.0), min_size=2, max_size=5), st.integers(1, 200))
def test_shares_differ_by_at_most_one_batch(seconds: list[float], rounds: int) -> None:
    """Each owner's batches last differently; whoever has the highest priority runs next."""
    shares = Shares()
    contexts = [shares.running(str(n)) for n in range(len(seconds))]
    for context in contexts:
        context.__enter__()
    used = [0.0] * len(seconds)
    for _ in range(rounds):
        chosen = max(range(len(used)), key=lambda n: shares.priority(str(n)))
        shares.charge(str(chosen), seconds[chosen])
        used[chosen] += seconds[chosen]
        assert max(used) - min(used) <= max(seconds) + 1e-3  # priorities are milliseconds
    for context in contexts:
        context.__exit__(None, None, None)


def test_idle_time_is_no_credit_and_no_debt() -> None:
    shares = Shares()
    with shares.running("long"):
        shares.charge("long", 1e6)
        with shares.running("new"):
            assert shares.priority("new") == shares.priority("long")
            shares.charge("new", 2.0)
            assert shares.priority("long") > shares.priority("new")
        with shares.running("new"):  # it cannot shake its use off while others wait
            shares.charge("long", 1.0)
            assert shares.priority("new") > shares.priority("long")
    with shares.running("long"):
        assert shares.priority("long") == 0


def test_jobs_of_one_owner_share_one_clock() -> None:
    shares = Shares()
    with shares.running("a"), shares.running("a"), shares.running(None):
        shares.charge("a", 1.0)
        assert shares.priority("a") < shares.priority(None)
