"""A sweep's runs and their names, what is wrong with a sweep's file in a sentence, and which runs are finished."""

import pytest
from ruamel.yaml import YAML

from genreward_jax.errors import UserError
from genreward_jax.rundir import RunDirectory
from genreward_jax.sweep import plan, run

JOB = {"tasks": ["reach"], "methods": ["none"], "seeds": [0], "preset": "smoke"}


def names(**changes):
    return [job.name for job in plan.grid(**{**JOB, **changes})]


def test_every_combination_once_and_the_first_seed_of_all_first():
    found = names(
        tasks=["reach", "gym_CartPole-v1"], methods=["none", "random"], seeds=[3, 4], env_rewards=["dense", "none"]
    )
    assert len(set(found)) == len(found) == 16
    assert found[:2] == ["reach/dense/none/seed3", "reach/dense/random/seed3"]
    assert all(name.endswith("seed3") for name in found[:8]) and "CartPole-v1/none/random/seed4" in found


def test_a_job_is_the_command_line_of_its_run():
    (job,) = plan.grid(**{**JOB, "seeds": [7], "env_rewards": ["sparse"], "flags": {"env.metaworld.size": [32, 32]}})
    config = job.config()
    assert (config.task, config.method, config.seed, config.preset) == ("metaworld_reach", "none", 7, "smoke")
    assert config.env.metaworld.reward == "sparse" and tuple(config.env.metaworld.size) == (32, 32)
    (job,) = plan.grid(**{**JOB, "tasks": ["gym_CartPole-v1"], "env_rewards": ["none"]})
    assert job.config().env.gym.reward == "none" and job.config().env.metaworld.reward == "dense"


def test_flags_that_vary_are_axes_and_stand_in_the_name():
    found = names(flags={"reward.alpha": [0.01, 0.1], "reward.beta": 1e-5})
    assert found == ["reach/dense/none/reward.alpha=0.01/seed0", "reach/dense/none/reward.alpha=0.1/seed0"]
    found = names(flags=[{}, {"goal.source": ["/a/goal.mp4", "/b/goal.mp4"]}])
    assert found[0] == "reach/dense/none/default/seed0" and len(set(found)) == 3
    assert all(name.count("/") == 4 for name in found)
    assert len(names(flags={"env.metaworld.size": [[64, 64], [32, 32]]})) == 2  # a flag that is a list itself


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tasks": ["reech"]}, "no task 'reech'; did you mean reach"),
        ({"methods": ["genrewrd"]}, "no method 'genrewrd': did you mean genreward"),
        ({"env_rewards": ["dens"]}, "--env_rewards is .dens.: did you mean dense"),
        ({"preset": "smok"}, "no preset 'smok': did you mean smoke"),
        ({"seeds": []}, "at least one of seeds"),
        ({"seeds": [1, 1]}, "seeds name '1' twice"),
        ({"seeds": [-1]}, "must be 0 or more"),
        ({"flags": {"reward.alhpa": 1}}, "no flag 'reward.alhpa' .* did you mean reward.alpha"),
        ({"flags": {"seed": 1}}, "which is its 'seeds'"),
        ({"flags": {"env.metaworld.reward": "none"}}, "which is its 'env_rewards'"),
        ({"flags": {"run.steps": "many"}}, "value that does not fit"),
        ({"flags": {"run.steps": []}}, "has no values"),
        ({"flags": {"reward": {"alpha": 1}}}, "no flag 'reward'"),
        ({"flags": [{}, {}]}, "would be the same"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        plan.grid(**{**JOB, **changes})


GOOD = "tasks: [reach]\nmethods: none\nseeds: [0, 1]\npreset: smoke\nresources: {num_gpus: 0.5, custom: {disk: 1}}\n"


def test_a_file_is_a_sweep(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)
    sweep = plan.read_sweep(file)
    assert (sweep.name, sweep.out, sweep.retries, sweep.methods) == ("mine", "runs/sweeps/mine", 2, ("none",))
    assert [job.name for job in sweep.jobs()] == ["reach/dense/none/seed0", "reach/dense/none/seed1"]


def test_the_sweeps_that_are_here_can_be_named():
    assert len(plan.read_sweep("paper_dense").jobs()) % 25 == 0
    assert {job.config().preset for job in plan.read_sweep("smoke").jobs()} == {"smoke"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("taks: [reach]", "key 'taks' that a sweep has not: did you mean tasks"),
        ("tasks: [reach", "is no YAML: .*line 1"),
        ("- reach", "holds no 'key: value' lines"),
        ("tasks: [reach]", "does not say which methods"),
        (GOOD.replace("[0, 1]", "[0, one]"), "seeds holds 'one'"),
        (GOOD.replace("num_gpus", "num_gpu"), "no resource 'num_gpu': did you mean num_gpus"),
        (GOOD.replace("0.5", "1.5"), "above 1 it must be a whole number"),
        (GOOD.replace("0.5", "lots"), "'num_gpus' is 'lots'"),
        (GOOD.replace("0.5", ".nan"), "'num_gpus' is nan; it must be a number"),
        (GOOD.replace("{disk: 1}", "5"), "'custom' is 5; it must be a mapping"),
        (GOOD + "retries: -1", "retries must be 0 or more"),
        (GOOD + "at_once: two", "at_once is 'two'"),
        (GOOD + "flags: {reward.alfa: 1}", "did you mean reward.alpha"),
    ],
)
def test_what_is_wrong_with_a_file_is_a_sentence(tmp_path, text, sentence):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        plan.read_sweep(file)


def test_a_name_that_is_no_file_names_the_nearest():
    with pytest.raises(UserError, match="no sweep 'smok': did you mean smoke"):
        plan.read_sweep("smok")


@pytest.fixture
def finished(tmp_path):
    """A finished run of a job, by its files; (folder, job)."""
    (job,) = plan.grid(**JOB, flags={"run.steps": 40})
    folder = tmp_path / job.name
    RunDirectory(str(folder)).keep_config(job.config().update({"jax.platform": "cpu", "env.metaworld.quality": "fast"}))
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "latest").write_text("000000000040")
    (folder / "scores.jsonl").write_text('{"step": 0, "eval/score": 1}\n{"step": 40, "eval/score": 2}\n{"step": 4')
    return folder, job


def test_a_run_is_finished_when_its_last_checkpoint_and_evaluation_are_there(finished):
    folder, job = finished
    assert plan.is_done(folder, job) and plan.is_done(f"file://{folder}", job)
    (folder / "scores.jsonl").write_text('{"step": 0, "eval/score": 1}\n{"step": 40, "episode/score": 2}\n')
    assert not plan.is_done(folder, job)


def test_a_tilde_in_the_output_is_the_home_folder(finished, tmp_path, monkeypatch):
    _, job = finished
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "ray_for_a_sweep", None)  # a run that is not found would be trained
    assert run.run_jobs([job], f"~/{tmp_path.name}") == {job.name: "finished"}  # found there: nothing is left to run


def test_an_earlier_checkpoint_is_not_the_end(finished):
    folder, job = finished
    (folder / "checkpoint" / "latest").write_text("000000000039")
    assert not plan.is_done(folder, job)


@pytest.mark.parametrize("change", [{"seeds": [1]}, {"methods": ["random"]}, {"flags": {"run.steps": 80}},
                                    {"flags": {"run.steps": 40, "goal.source": "expert"}},
                                    {"flags": {"run.steps": 40, "batch_size": 2}}])  # fmt: skip
def test_another_run_is_not_this_one(finished, change):
    folder, _ = finished
    (other,) = plan.grid(**{**JOB, "flags": {"run.steps": 40}, **change})
    assert not plan.is_done(folder, other)


def test_what_may_change_and_flags_that_the_run_did_not_know_do_not_matter(finished):
    folder, job = finished
    yaml = YAML(typ="safe")
    content = yaml.load((folder / "config.yaml").read_text())
    del content["patches"], content["reward"]["baseline"]
    with (folder / "config.yaml").open("w") as file:
        yaml.dump(content, file)
    assert plan.is_done(folder, job)
    (fewer,) = plan.grid(**JOB, flags={"run.steps": 30, "run.save_every": 3})
    assert plan.is_done(folder, fewer)


def test_no_run_or_a_damaged_one_is_not_finished(finished, tmp_path):
    folder, job = finished
    assert not plan.is_done(tmp_path / "nowhere", job)
    (folder / "config.yaml").write_text("{task: [")
    assert not plan.is_done(folder, job)
