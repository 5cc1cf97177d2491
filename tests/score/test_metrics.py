"""Every metric against a plain loop or a known answer, ties and empty groups included."""

import itertools
import math

import numpy as np
import pytest

from genreward_jax.score import metrics
from genreward_jax.score import statistics as st
from genreward_jax.score.discrimination import Discrimination, discriminate
from tests.score.small import LADDERS, episode, valued


def tau_b(a, b) -> float:
    """Kendall's tau-b, pair by pair."""
    agree = tied_a = tied_b = pairs = 0
    for i, j in itertools.combinations(range(len(a)), 2):
        pairs += 1
        tied_a += a[i] == a[j]
        tied_b += b[i] == b[j]
        agree += np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])
    return agree / math.sqrt((pairs - tied_a) * (pairs - tied_b))


def mean_ranks(values) -> np.ndarray:
    return np.array([sum(x < v for x in values) + (sum(x == v for x in values) + 1) / 2 for v in values])


def value(figures: dict, name: str) -> float:
    return figures[name]["value"]


class TestStatistics:
    def test_area_counts_pairs_and_half_for_ties(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            ours, others = rng.integers(0, 5, rng.integers(1, 8)), rng.integers(0, 5, rng.integers(1, 8))
            expected = np.mean([(x > y) + 0.5 * (x == y) for x in ours for y in others])
            one = [np.ones((1, len(side))) for side in (ours, others)]
            assert st.area(st.wins(ours, others), *one)[0] == pytest.approx(expected)

    def test_area_with_counts_is_the_area_with_repeated_episodes(self):
        ours, others = np.array([3, 1, 2]), np.array([0, 2])
        counts = np.array([[2.0, 0, 1]]), np.array([[1.0, 3]])
        expected = np.mean([(x > y) + 0.5 * (x == y) for x in (3, 3, 2) for y in (0, 2, 2, 2)])
        assert st.area(st.wins(ours, others), *counts)[0] == pytest.approx(expected)
        assert np.isnan(st.area(st.wins(ours, others), np.zeros((1, 3)), np.ones((1, 2)))[0])

    def test_kendall_against_pairs(self):
        rng = np.random.default_rng(1)
        for _ in range(20):
            a, b = rng.integers(0, 4, 9), rng.integers(0, 4, 9)
            assert st.kendall(a, b) == pytest.approx(tau_b(a, b))
        assert st.kendall(np.arange(5), np.zeros(5)) == 0.0

    def test_correlations_against_their_definitions(self):
        rng = np.random.default_rng(2)
        a, b = rng.integers(0, 6, 30).astype(float), rng.normal(size=30)
        centred = [x - x.mean() for x in (a, b)]
        expected = (centred[0] * centred[1]).sum() / np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
        assert st.pearson(a, b) == pytest.approx(expected)
        assert st.spearman(a, b) == pytest.approx(st.pearson(mean_ranks(a), mean_ranks(b)))
        wobbling = np.float32(0.3) + np.float32(3e-8) * (np.arange(30) > 12)  # rounding, not a step
        for constant in (np.zeros(30), np.full(30, 0.7), wobbling):
            assert st.spearman(constant, b) == st.pearson(constant, b) == st.spearman(b, constant) == 0.0

    def test_gap_against_its_definition(self):
        values, good = np.array([1.0, 2, 4, 8, 9]), np.array([[0.0, 0, 1, 1, 1]])
        plain, standardised = st.gap(values, good, 1 - good)
        pooled = (2 * np.var([4, 8, 9], ddof=1) + np.var([1, 2], ddof=1)) / 3
        assert plain[0] == pytest.approx(7 - 1.5) and standardised[0] == pytest.approx(5.5 / np.sqrt(pooled))
        assert st.gap(np.array([1.0, 1]), np.array([[1.0, 0]]), np.array([[0.0, 1]]))[1][0] == 0
        assert np.isnan(st.gap(np.array([1.0, 2]), np.array([[1.0, 0]]), np.array([[0.0, 1]]))[1][0])
        assert np.isnan(st.gap(values, good * 0, 1 - good)[0][0])

    def test_differences_below_noise_are_ties(self):
        assert st.snapped(np.array([5.0, 1.0, 1.0 + 1e-9, 3.0, 1.0 - 1e-9]), 1e-6).tolist() == [2, 0, 0, 1, 0]

    def test_seeds_stay_together_and_strangers_are_drawn_apart(self):
        keys = [(s, b) for s in range(4) for b in ("expert", "random")] + [(s, "run") for s in (70, 71, 72)]
        counts = st.resample(keys, 500, 0)
        assert np.array_equal(counts[:, 0:8:2], counts[:, 1:8:2])
        assert (counts[:, :8:2].sum(1) == 4).all() and (counts[:, 8:].sum(1) == 3).all()
        assert counts.mean(0) == pytest.approx(np.ones(11), abs=0.15)
        assert np.array_equal(counts, st.resample(keys, 500, 0)) and not np.array_equal(
            counts, st.resample(keys, 500, 1)
        )

    def test_interval_covers_the_truth_about_as_often_as_it_says(self):
        rng, hits = np.random.default_rng(0), 0
        for trial in range(200):
            sample = rng.normal(3, 1, 25)
            found = st.mean(sample, st.resample([(i, "expert") for i in range(25)], 400, trial))
            hits += found["low"] <= 3 <= found["high"]
        assert 0.87 <= hits / 200 <= 0.99


def scored(sum_of, seeds=range(5), steps: int = 6, behaviours=LADDERS, weight: float = 1.0, paid=None):
    """Episodes of all behaviours, and values whose sum is ``sum_of(behaviour, seed)``, spread evenly over the steps."""
    trajectories, values = [], []
    for seed, behaviour in itertools.product(seeds, behaviours):
        good = behaviour in ("expert", "noisy1")
        trajectories.append(episode(behaviour, seed, np.arange(steps), success_at=steps - 2 if good else -1))
        values.append(valued([np.nan] + [sum_of(behaviour, seed) / (steps - 1)] * (steps - 1), paid, weight))
    return trajectories, values


WORTH = {"expert": 8, "noisy1": 7, "noisy2": 6, "noisy3": 5, "stop75": 4, "stop50": 3, "stop25": 2, "random": 1}


class TestRanking:
    def test_a_perfect_reward_and_its_opposite(self):
        for sign in (1, -1):
            # A seed's scene moves all its sums by far more than behaviours differ.
            figures = metrics.measure(*scored(lambda b, s, sign=sign: sign * WORTH[b] + 0.1 * s))
            for variant in ("as_trained", "every_step"):
                for other in LADDERS[1:]:
                    assert value(figures, f"ranking/{variant}/auc_expert_vs_{other}") == (sign > 0)
                assert value(figures, f"ranking/{variant}/kendall_tau_b_noise_ladder") == pytest.approx(sign)
                assert value(figures, f"ranking/{variant}/kendall_tau_b_stop_ladder") == pytest.approx(sign)
                assert sign * value(figures, f"ranking/{variant}/success_failure_gap") > 0

    def test_tau_is_of_one_seed_at_a_time(self):
        figures = metrics.measure(*scored(lambda b, s: WORTH[b] + 100 * s))
        assert value(figures, "ranking/every_step/kendall_tau_b_noise_ladder") == pytest.approx(1)
        assert value(figures, "ranking/every_step/auc_expert_vs_random") < 0.7

    def test_a_constant_is_worth_nothing_whatever_its_rounding(self):
        rng = np.random.default_rng(0)
        for jitter in (0.0, 1e-7):
            figures = metrics.measure(*scored(lambda b, s, j=jitter: 3 * (1 + j * rng.uniform(-1, 1))))
            for name, figure in figures.items():
                if "auc" in name:
                    assert (figure["value"], figure["low"], figure["high"]) == (0.5, 0.5, 0.5)
                if "tau" in name or name.startswith("alignment"):
                    assert figure["value"] == 0

    def test_a_ramp_has_alignment_but_no_ranking(self):
        trajectories, _ = scored(lambda b, s: 0)
        values = [valued(np.arange(6) / 5) for _ in trajectories]
        figures = metrics.measure(trajectories, values)
        assert value(figures, "ranking/every_step/auc_expert_vs_random") == 0.5
        assert value(figures, "alignment/every_step/spearman_time") == pytest.approx(1)
        assert value(figures, "alignment/every_step/pearson_time") == pytest.approx(1)

    def test_chance_lies_inside_its_interval(self):
        inside = []
        for trial in range(20):
            rng = np.random.default_rng(trial)
            figures = metrics.measure(
                *scored(lambda b, s, r=rng: r.normal(), seeds=range(8), behaviours=("expert", "random"))
            )
            figure = figures["ranking/as_trained/auc_expert_vs_random"]
            inside.append(figure["low"] <= 0.5 <= figure["high"])
        assert np.mean(inside) > 0.8

    def test_foreign_episodes_without_common_seeds(self):
        trajectories = [episode("expert", i, success_at=2) for i in range(3)]
        trajectories += [episode("random", 10 + i) for i in range(3)] + [episode("mine", 20)]
        figures = metrics.measure(trajectories, [valued([0, w, w, w, w]) for w in (5, 4, 3, 2, 3, 1, 9)])
        assert value(figures, "ranking/every_step/auc_expert_vs_random") == pytest.approx(8.5 / 9)
        assert value(figures, "ranking/every_step/auc_expert_vs_mine") == 0
        expected = tau_b([5, 5, 5, 1, 1, 1], [5, 4, 3, 2, 3, 1])
        assert value(figures, "ranking/every_step/kendall_tau_b_pooled_noise_ladder") == pytest.approx(expected)
        assert "ranking/every_step/kendall_tau_b_noise_ladder" not in figures

    def test_an_unknown_end_is_no_failure(self):
        trajectories = [episode("expert", 0, success_at=2), episode("expert", 1), episode("run", 2)]
        values = [valued([0, w, w, w, w]) for w in (3, 1, 100)]
        gap = "ranking/every_step/success_failure_gap"
        assert value(metrics.measure(trajectories, values), gap) == 8
        trajectories[2] = episode("failure", 2)
        assert value(metrics.measure(trajectories, values), gap) == 12 - (4 + 400) / 2

    def test_what_cannot_be_measured_is_left_out(self):
        figures = metrics.measure([episode("given", 0), episode("given", 1)], [valued(np.arange(5))] * 2)
        assert not [name for name in figures if name.startswith(("ranking", "alignment"))]
        nothing = [valued([np.nan] * 5, paid=[])] * 2
        assert not [name for name in metrics.measure([episode("expert", 0)] * 2, nothing) if "every_step" in name]
        with pytest.raises(ValueError, match="one for each"):
            metrics.measure([episode("expert", 0)], [])

    def test_as_trained_is_weighted_and_pays_only_its_rows(self):
        trajectories = [episode("expert", 0), episode("random", 0)]
        values = [valued([0, 9, 1, 9, 1], paid=[2, 4], weight=-2), valued([0, 0, 3, 0, 3], paid=[2, 4], weight=-2)]
        figures = metrics.measure(trajectories, values)
        assert value(figures, "ranking/as_trained/auc_expert_vs_random") == 1.0  # -4 against -12
        assert value(figures, "ranking/every_step/auc_expert_vs_random") == 1.0  # 20 against 6
        assert value(figures, "agent/as_trained/episode_mean") == -8


class TestAlignment:
    def test_only_until_success_and_only_experts(self):
        own = [np.nan, 1, 2, 3, -9, -9, -9]
        trajectories = [episode("expert", 0, range(7), success_at=3), episode("random", 0, range(7))]
        figures = metrics.measure(trajectories, [valued(own), valued(-np.arange(7))])
        assert value(figures, "alignment/every_step/spearman_time") == pytest.approx(1)

    def test_mean_over_experts_and_against_return_and_reward(self):
        env = [0, 1, 5, 1, 1]
        own = [[0, 1, 2, 3, 4], [0, 4, 5, 1, 2]]
        trajectories = [episode("expert", s, env) for s in range(2)]
        figures = metrics.measure(trajectories, [valued(row) for row in own])
        time = np.mean([st.pearson(mean_ranks(row[1:]), np.arange(4)) for row in own])
        assert value(figures, "alignment/every_step/spearman_time") == pytest.approx(time)
        assert value(figures, "alignment/every_step/spearman_env_return") == pytest.approx(time)  # which grows with it
        reward = np.mean([st.pearson(mean_ranks(row[1:]), mean_ranks(env[1:])) for row in own])
        assert value(figures, "alignment/every_step/spearman_env_reward") == pytest.approx(reward)

    def test_too_short_or_empty_is_left_out(self):
        trajectories = [episode("expert", 0, success_at=2)]
        assert not [n for n in metrics.measure(trajectories, [valued(np.arange(5))]) if n.startswith("alignment")]


class TestDiscrimination:
    def test_margin_by_hand(self):
        matrix = np.array([[5.0, 2, 1], [3, 4, 6], [1, 1, 2]])
        figures = discriminate(
            Discrimination(tuple("abc"), tuple("abc"), matrix[..., None], matrix[..., None]), "as_trained"
        )
        margins = [5 - 3, 4 - 2, 2 - 6]
        assert value(figures, "diagonal_margin") == pytest.approx(np.mean(margins))
        assert value(figures, "diagonal_margin_standardised") == pytest.approx(np.mean(margins) / matrix.std())
        assert value(figures, "own_goal_first") == pytest.approx(2 / 3)

    def test_constant_one_column_and_missing(self):
        same = np.ones((3, 3, 4))
        figures = discriminate(Discrimination(tuple("abc"), tuple("abc"), same, same), "every_step")
        assert [value(figures, n) for n in figures] == [0, 0, pytest.approx(1 / 3)]
        column = np.array([[[2.0, 4]], [[1, np.nan]], [[np.nan, np.nan]]])  # one task's video, three goals
        figures = discriminate(Discrimination(tuple("abc"), ("a",), column, column), "as_trained")
        assert value(figures, "diagonal_margin") == 2 and value(figures, "own_goal_first") == 1
        assert discriminate(Discrimination(("a",), tuple("ab"), same[:1], same[:1]), "as_trained") == {}
        assert discriminate(Discrimination(tuple("ab"), ("c",), same[:2, :1], same[:2, :1]), "as_trained") == {}

    def test_interval_comes_from_episodes(self):
        rng = np.random.default_rng(0)
        sums = rng.normal(size=(2, 2, 6)) + 3 * np.eye(2)[..., None]
        figure = discriminate(Discrimination(tuple("ab"), tuple("ab"), sums, sums), "as_trained")["diagonal_margin"]
        assert figure["low"] < figure["value"] < figure["high"] and figure["low"] > 0


class TestReceived:
    def test_mean_spread_share_zeros_and_repeats(self):
        trajectories = [episode("expert", 0, [0, 1, 2, 3, 4]), episode("random", 0, [0, 0, 0, 0, 2])]
        values = [valued([0, 9, 0.5, 9, 0.25], [2, 4], 0.1), valued([0, 9, 0.0, 9, 0.5], [2, 4], 0.1)]
        figures = metrics.measure(trajectories, values)
        steps, env = np.array([0, 0.05, 0, 0.025, 0, 0, 0, 0.05]), np.array([1, 2, 3, 4, 0, 0, 0, 2])
        sums, returns = np.array([0.075, 0.05]), np.array([10, 2])
        expected = {
            "step_mean": steps.mean(),
            "step_spread": steps.std(),
            "episode_mean": sums.mean(),
            "episode_spread": sums.std(),
            "env_step_mean": env.mean(),
            "env_step_spread": env.std(),
            "env_episode_mean": 6,
            "env_episode_spread": 4,
            "share_by_size": steps.sum() / (steps.sum() + env.sum()),
            "share_by_variance_step": steps.var() / (steps.var() + env.var()),
            "share_by_variance_episode": sums.var() / (sums.var() + returns.var()),
            "rows": 4,
            "zero_rows": 1,
            "identical_rows": 2,
        }
        for name, number in expected.items():
            assert value(figures, f"agent/as_trained/{name}") == pytest.approx(number, rel=1e-5), name
        assert value(figures, "agent/every_step/rows") == 10 and value(figures, "agent/every_step/identical_rows") == 4

    def test_a_reward_lost_beside_the_environments_is_below_float_noise(self):
        trajectories = [episode(b, s, [0] + [1000.0] * 4) for s in range(3) for b in ("expert", "random")]
        values = [valued([0, w, w, w, w], weight=1e-6) for w in (0.9, 0.1) * 3]
        figures = metrics.measure(trajectories, values)
        spread = value(figures, "agent/as_trained/episode_spread")
        assert 0 < spread < value(figures, "agent/as_trained/float_noise")
        assert value(figures, "ranking/as_trained/auc_expert_vs_random") == 0.5
        assert value(figures, "ranking/every_step/auc_expert_vs_random") == 1

    def test_no_pay_is_no_share(self):
        figures = metrics.measure([episode("expert", 0, [0] * 5)], [valued([np.nan] * 5, paid=[])])
        assert value(figures, "agent/as_trained/share_by_size") == 0 and value(figures, "agent/as_trained/rows") == 0

    def test_cost_is_passed_on_and_everything_is_json(self):
        import json

        figures = metrics.measure(*scored(lambda b, s: WORTH[b]), cost={"as_trained/ms_per_env_step": 0.7})
        assert figures["cost/as_trained/ms_per_env_step"] == {"value": 0.7, "low": None, "high": None}
        json.dumps(figures, allow_nan=False)
