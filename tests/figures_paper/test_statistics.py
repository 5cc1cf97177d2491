"""The numbers of the curves, against plain NumPy and rliable's own interquartile mean."""

import numpy as np
import pytest

from genreward_jax.paper_figures import runs
from genreward_jax.paper_figures.statistics import interquartile, iqm, mean_and_deviation
from tests.figures_paper.conftest import flags, write_run


def found(tmp_path, tables, old=False):
    """Runs of seeds 0, 1, ...: each a mapping of step to returns."""
    for seed, returns in enumerate(tables):
        write_run(tmp_path / str(seed), *flags(seed=seed), returns=returns, old=old)
    return runs.find(tmp_path)


def test_mean_and_deviation_are_over_all_episodes_of_all_seeds(tmp_path):
    tables = [{0: [1.0], 600: [10.0, 120.0, 20.0]}, {0: [3.0], 300: [5.0], 600: [40.0, 130.0, 50.0]}]
    curve = mean_and_deviation(found(tmp_path, tables), "return")
    assert curve.steps.tolist() == [0, 600] and curve.seeds == 2 and curve.episodes.tolist() == [2, 6]
    pooled = np.array([10, 120, 20, 40, 130, 50.0])
    assert curve.middle[1] == pytest.approx(pooled.mean())
    assert curve.high[1] - curve.middle[1] == pytest.approx(pooled.std())
    success = mean_and_deviation(runs.find(tmp_path), "success")
    assert success.middle.tolist() == pytest.approx([0, 2 / 6])


def test_runs_that_kept_means_only_have_no_deviation(tmp_path):
    curve = mean_and_deviation(found(tmp_path, [{0: [1.0, 3.0]}], old=True), "return")
    assert curve.middle.tolist() == [2] and curve.episodes.tolist() == [2] and np.isnan(curve.low).all()


def test_the_interquartile_mean_is_rliables():
    from rliable import metrics

    table = np.random.default_rng(0).normal(size=(5, 3, 4))
    assert iqm(table) == pytest.approx([metrics.aggregate_iqm(table[..., step]) for step in range(4)])


def test_its_interval_is_over_seeds_and_one_seed_has_none(tmp_path):
    tables = [{0: [level], 600: [10 * level]} for level in (1.0, 2.0, 3.0, 4.0, 5.0)]
    there = found(tmp_path, tables)
    curve = interquartile([there], "return")
    assert curve.middle.tolist() == pytest.approx([3, 30]) and curve.seeds == 5
    assert (curve.low < curve.middle).all() and (curve.high > curve.middle).all()
    assert curve.low[1] >= 10 and curve.high[1] <= 50
    alone = interquartile([there[:1]], "return")
    assert alone.middle.tolist() == [1, 10] and np.isnan(alone.low).all() and np.isnan(alone.high).all()


def test_the_same_runs_give_the_same_interval_and_leave_the_global_numbers_alone(tmp_path):
    """rliable draws from NumPy's global state, whatever random_state it is given."""
    rng = np.random.default_rng(0)
    there = found(tmp_path, [{0: [float(rng.normal())]} for _ in range(6)])
    np.random.seed(1)
    one, after = interquartile([there], "return"), np.random.random()
    np.random.seed(1)
    assert np.random.random() == after
    two = interquartile([there], "return")
    assert one.low.tolist() == two.low.tolist() and one.high.tolist() == two.high.tolist()
    from rliable.library import get_interval_estimates

    table = np.array([[[run.evaluations[0].returns[0]]] for run in there])
    other = get_interval_estimates({"": table}, iqm, reps=2000)[1][""]
    assert other[0].tolist() != one.low.tolist()  # so equal intervals mean something


def test_only_seeds_that_every_task_has_are_taken(tmp_path):
    there = found(tmp_path, [{0: [1.0]}, {0: [5.0]}])
    assert interquartile([there, there[:1]], "return").middle.tolist() == [1]
    assert interquartile([there, []], "return") is None


def test_seeds_without_a_common_step_have_no_interquartile_mean(tmp_path):
    there = found(tmp_path, [{300: [1.0]}, {600: [5.0]}])
    assert interquartile([there], "return") is None and not len(mean_and_deviation(there, "return").steps)
    assert interquartile([there[:1]], "return").steps.tolist() == [300]
