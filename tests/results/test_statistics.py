"""Intervals and tests, held to scipy.stats and to numbers on paper."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from advkit.results.statistics import holm, mcnemar, paired, share, stars


@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 7), (534, 1000), (9999, 10000)])
def test_the_interval_of_a_share_is_wilsons(count: int, total: int) -> None:
    theirs = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert share(count, total) == pytest.approx((count / total, theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 1), (1, 0), (5, 5), (2, 9), (120, 80), (0, 40), (3000, 2900)])
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(gained: int, lost: int) -> None:
    theirs = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(theirs, rel=1e-9)


def test_mcnemar_on_paper() -> None:
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 3) == pytest.approx(2 * (1 + 4) / 2**4)


@pytest.mark.parametrize(("n", "gained", "lost"), [(40, 9, 2), (200, 30, 30), (1000, 5, 60)])
def test_the_paired_interval_is_what_resampling_comes_to(n: int, gained: int, lost: int) -> None:
    found = paired(n, gained, lost)
    changes = np.repeat([1.0, -1.0, 0.0], [gained, lost, n - gained - lost])
    drawn = stats.bootstrap(
        (changes,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0), vectorized=True
    ).confidence_interval
    assert found.value == (gained - lost) / n
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=1.5 / n)


def test_the_paired_interval_of_one_example_in_two_is_a_binomials() -> None:
    found = paired(20, 10, 0)  # the sum of twenty draws of 0 or 1
    assert (found.low * 20, found.high * 20) == pytest.approx(stats.binom.ppf([0.025, 0.975], 20, 0.5))


def test_nothing_differs_from_itself() -> None:
    assert paired(100, 0, 0)[:4] == (0.0, 0.0, 0.0, 1.0)


def test_all_of_one_and_none_of_the_other_is_certain() -> None:
    assert paired(7, 7, 0)[:3] == (1.0, 1.0, 1.0)
    assert paired(7, 0, 7)[:3] == (-1.0, -1.0, -1.0)


def test_holm_on_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert len(holm([])) == 0


def test_holm_lets_one_in_twenty_families_through() -> None:
    rng = np.random.default_rng(0)
    assert np.mean([(holm(rng.random(30)) < 0.05).any() for _ in range(2000)]) == pytest.approx(0.05, abs=0.015)


def test_stars() -> None:
    assert [stars(p) for p in (0.2, 0.05, 0.04, 0.009, 0.0009)] == ["", "", "*", "**", "***"]
