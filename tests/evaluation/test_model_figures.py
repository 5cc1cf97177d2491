"""The figures of models-eval against plain counting, on episodes whose answers are known."""

import numpy as np
import pytest

from genreward_jax.evaluation import model_report, models


def expert(task="pick_place", seed=0, **changes):
    """An expert whose goal points along the first axis, near to what it does and far from what random does."""
    axes = np.eye(4, dtype=np.float32)
    settings = dict(
        task=task, seed=seed, quality="fast", success_step=40,
        phases=["away", "away", "near", "held", "held", "done", "done", "done"],
        goals={"generated": axes[0], "still": axes[1], "true": axes[0]},
        windows={"expert": axes[[0, 0]] + 0.1 * seed, "random": axes[[1, 1]], "stop50": axes[[0, 1]] + axes[[1, 0]]},
        features=np.concatenate([axes[[1] * 5], axes[[0] * 3]]), made_features=axes[[1, 0]],
        similarity=np.array([0, 0, 0, 0, 0, 1, 0, 0.5]), psnr=30.0, made=np.zeros((5, 8, 8, 3), np.uint8),
    )  # fmt: skip
    return models.Expert(**{**settings, **changes})


def test_auc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 20).astype(float), rng.integers(0, 5, 30).astype(float)
    counted = np.mean([1.0 if x > y else 0.5 if x == y else 0.0 for x in a for y in b])
    assert models.auc(a, b) == pytest.approx(counted)
    assert models.auc(np.ones(3), np.ones(4)) == 0.5


def test_a_good_goal_ranks_the_expert_first_and_a_still_one_last():
    experts = [expert(seed=seed) for seed in range(3)]
    for fixed in (True, False):
        assert models.ranking(experts, "generated", "random", fixed) == 1.0
        assert models.ranking(experts, "generated", "stop50", fixed) == 1.0
        assert models.ranking(experts, "still", "random", fixed) == 0.0


def test_a_fixed_goal_is_not_compared_with_its_own_seed():
    # Seed 1's goal is what seed 1's own expert does and nobody else's.
    own = np.eye(4, dtype=np.float32)
    experts = [expert(seed=0), expert(seed=1)]
    for number, one in enumerate(experts):
        one.goals["generated"] = own[2 + number]
        one.windows = {"expert": own[[2 + number] * 2], "random": own[[3 - number] * 2], "stop50": own[[1, 1]]}
    assert models.ranking(experts, "generated", "random", fixed=False) == 1.0
    assert models.ranking(experts, "generated", "random", fixed=True) == 0.0


def test_another_tasks_goal_is_the_next_tasks():
    experts = [expert("pick_place"), expert("shelf_place")]
    experts[1].goals["generated"] = np.eye(4, dtype=np.float32)[1]
    by_task = [models.ranking(experts[i:] + experts[:i], "other", "random", False) for i in (0, 1)]
    assert models.ranking(experts, "other", "random", False) == pytest.approx(np.mean([0.0, 1.0]))
    assert by_task[0] == by_task[1]


def test_the_correction_takes_off_what_still_scores():
    rewards = np.array([0.9, 0.95, 1.0, 0.5])
    np.testing.assert_allclose(models.corrected(rewards, 0.9), [0, 0.5, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("chosen", "late"),
    [(2, False), (4, False), (5, True), (7, True)],  # approach at step 16, success at 40: late from 35.2 on
)
def test_a_key_frame_is_late_in_the_last_fifth_or_after_success(chosen, late):
    assert models.key_frame_is_late(expert(similarity=np.eye(8)[chosen])) is late


def test_without_success_there_is_no_answer():
    failed = expert(success_step=-1, phases=["away"] * 8)
    assert models.key_frame_is_late(failed) is None and models.generated_is_nearer(failed) is None
    assert models.share([True, None, False]) == 0.5
    assert np.isnan(models.share([None]))


def test_a_video_that_ends_where_it_began_is_not_nearer():
    axes = np.eye(4, dtype=np.float32)
    assert models.generated_is_nearer(expert()) is True
    back = expert("shelf_place", made_features=axes[[0, 1]])
    assert models.generated_is_nearer(back) is False
    assert models.generated_is_nearer(expert(), video=back) is False
    made = models.figures([expert(), back])
    assert made["generated"] == 0.5 and made["generated_other"] == 0.5


def test_tables_hold_every_figure_and_say_what_is_missed(tmp_path):
    experts = [expert(task, seed) for task in ("pick_place", "shelf_place") for seed in range(2)]
    made = {"embedded": {"paper": models.figures(experts)}}
    made["embedded"]["paper"]["psnr"] = 27.9
    text = model_report.markdown(made)
    assert "| 27.9 dB |" in text and "≥ 28.0 dB" in text and text.count("\n") == len(model_report.rows_of()) + 2
    assert "BELOW 28.0 dB" in model_report.table(made) and "reached" in model_report.table(made)
    counted = {"auc_random": 0.97, "auc_random_other": 0.98, "auc_random_still": 0.1}
    assert model_report.verdict("auc_random", counted) == "NO BETTER than a control"
    assert model_report.verdict("auc_random", {**counted, "auc_random_other": 0.6}) == "reached"
    model_report.picture(tmp_path / "a.png", experts)
    assert (tmp_path / "a.png").stat().st_size > 200
