"""What a newcomer reads first: columns that fit, controls apart, verdicts that say what the figures say."""

import json

import numpy as np
import pytest

from genreward_jax.score import metrics, report
from genreward_jax.score.table import control_faults, verdict
from tests.score.example import example, values
from tests.score.small import episode, valued


@pytest.fixture(scope="module")
def score():
    return example(seeds=6, length=32)


def rescored(score, name: str, kind: str = "", noise: float = 0.0, **options):
    """The example with one reward more."""
    made = [values(t, noise, kind=kind, **options) for t in score.trajectories]
    figures = {**score.figures, name: metrics.measure(score.trajectories, made, resamples=200)}
    return type(score)(**{**vars(score), "values": {**score.values, name: made}, "figures": figures})


def test_it_fits_and_controls_stand_apart(score):
    text = report.table(score)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    part = lines[lines.index(next(line for line in lines if line.startswith("every_step"))) :]
    first = [line.split(" ")[0] for line in part[4:13]]
    assert first == ["video", "fb_measure", "flat", "", "random", "constant", "ramp", "pixels", "env"]
    assert set(part[7]) == {" ", "-"}
    shown = float(part[5].split()[1])
    assert shown == round(score.figures["fb_measure"]["ranking/every_step/auc_expert_vs_random"]["value"], 2)
    assert text.count("Note: ") == 1


def test_long_names_and_missing_figures_keep_the_columns(score):
    long = rescored(score, "my_module.rewards:AVeryLongNameOfAReward")
    lines = report.table(long).splitlines()
    assert max(map(len, lines)) <= 100 and any(line.startswith("my_module.rewar…  ") for line in lines)
    bare = type(score)(
        **{**vars(score), "figures": {"video": {"agent/as_trained/rows": {"value": 1.0, "low": None, "high": None}}}}
    )
    assert "cannot be ranked" in report.table(bare)


def test_verdicts(score):
    assert verdict(score, "fb_measure").startswith("ranks experts above random (1.00 every_step); beside pixels: ")
    flat = verdict(score, "flat")
    assert "does not tell experts from random (0.50 every_step" in flat
    assert "are the same" in flat and "is below float noise" in flat and "under 0.1 %" in flat
    worse = [valued(-values(t, 0.0).every_step) for t in score.trajectories]
    figures = {"worse": metrics.measure(score.trajectories, worse, resamples=200)}
    upside_down = type(score)(**{**vars(score), "figures": figures})
    assert verdict(upside_down, "worse").startswith("ranks random above experts (0.00 every_step)")
    assert "pixels" not in verdict(upside_down, "worse") and "float noise" not in verdict(upside_down, "worse")


def test_beside_pixels_a_tie_is_neither_above_nor_below(score):
    named = ("auc_expert_vs_random", "auc_expert_vs_stop25", "kendall_tau_b_noise_ladder")
    made = lambda *numbers: {  # noqa: E731
        f"ranking/as_trained/{name}": {"value": number, "low": number, "high": number}
        for name, number in zip(named, numbers, strict=True)
    }
    figures = {"x": made(1.0, 0.9, 0.2), "pixels": made(1.0, 0.5, 0.4)}
    said = verdict(type(score)(**{**vars(score), "figures": figures}), "x")
    assert "beside pixels: as_trained above in 1 (" in said and "equal in 1, below in 1 (noise ladder)" in said


def test_few_seeds_are_said_with_the_number_that_they_gave(score):
    few = type(score)(**{**vars(score), "seeds": [1, 2]})
    assert "of 2 seeds only" in verdict(few, "fb_measure")
    assert any("With 2 seeds chance does that" in fault for fault in control_faults(rescored(few, "random")))


def test_an_interval_that_holds_chance_is_no_ranking(score):
    """Whatever the figure in its middle."""
    for value, low, high, words in (
        (0.8, 0.4, 1.0, "does not tell experts from random (0.80 every_step, chance is inside"),
        (0.8, 0.6, 1.0, "ranks experts above random (0.80"),
        (0.2, 0.0, 0.5, "does not tell experts from random (0.20"),
        (0.2, 0.0, 0.4, "ranks random above experts (0.20"),
    ):
        figures = {"ranking/every_step/auc_expert_vs_random": {"value": value, "low": low, "high": high}}
        assert verdict(type(score)(**{**vars(score), "figures": {"x": figures}}), "x").startswith(words)


def test_a_reward_that_pays_nothing_or_zeros():
    trajectories = [episode("expert", 0), episode("random", 0)]
    for paid, words in (([], "training would pay nothing"), ([2, 4], "training would pay zeros only")):
        figures = {"x": metrics.measure(trajectories, [valued(np.zeros(5), paid)] * 2, resamples=20)}
        score = report.Score("reach", "", "", "", [0], trajectories, {"x": []}, figures)
        assert words in verdict(score, "x")


def test_controls_that_come_out_wrong_are_told(score):
    assert control_faults(score) == []
    faults = control_faults(rescored(score, "constant"))
    assert len(faults) == 3 and "The control 'constant' should have 0.5 in ranking/as_trained/auc" in faults[0]
    assert any("should have 0 in alignment" in fault for fault in faults)
    assert any("'ramp' should have 1" in fault for fault in control_faults(rescored(score, "ramp", "random")))
    assert any("'random' should have 0.5 inside" in fault for fault in control_faults(rescored(score, "random")))
    assert any("'env' should have 1 " in fault for fault in control_faults(rescored(score, "env", "constant")))
    assert "The control 'env'" in report.table(rescored(score, "env", "constant"))


def test_files_appear_and_the_json_holds_every_number(score, tmp_path):
    paths = report.write(tmp_path / "deep" / "out", score)
    assert [path.name for path in paths] == ["score.json", "score.png", "score.html"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["score.html", "score.json", "score.png"]
    found = json.loads(paths[0].read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(found["rewards"]) == list(score.figures) and found["rewards"]["video"] == score.figures["video"]
    assert found["task"] == "shelf_place" and found["seeds"] == list(range(6)) and found["commit"] == "0123abc"
    assert found["controls"] == ["random", "constant", "ramp", "pixels", "env"]
    one, trajectory = found["episodes"][3], score.trajectories[3]
    assert one["behaviour"] == trajectory.behaviour and one["success_step"] == trajectory.success_step
    said = one["values"]["video"]
    np.testing.assert_allclose(
        np.array(said["every_step"], np.float64), score.values["video"][3].every_step, rtol=1e-6, equal_nan=True
    )
    assert [v is not None for v in said["as_trained"]] == np.isfinite(score.values["video"][3].as_trained).tolist()
    given = found["discrimination"]["video"]
    np.testing.assert_allclose(given["every_step"], score.discrimination["video"].every_step.mean(2), rtol=1e-6)


def test_a_picture_of_little(tmp_path):
    """One reward, one behaviour, no curve, no matrix."""
    from genreward_jax.figures.score import score_picture

    trajectories = [episode("given", 0), episode("given", 1)]
    made = [valued([np.nan] * 5, paid=[])] * 2
    figures = {"x": metrics.measure(trajectories, made)}
    score_picture(tmp_path / "a.png", report.Score("", "", "", "", [0, 1], trajectories, {"x": made}, figures))
    made = [valued(np.arange(5))] * 2
    figures = {"x": metrics.measure(trajectories, made)}
    score_picture(tmp_path / "b.png", report.Score("", "", "", "", [0, 1], trajectories, {"x": made}, figures))
    assert (tmp_path / "b.png").stat().st_size > (tmp_path / "a.png").stat().st_size > 1000
