"""What a figure misses is what is trained, and nothing else."""

import pytest

from genreward_jax.errors import UserError
from genreward_jax.paper_figures import plan as plan_lib
from genreward_jax.paper_figures import reproduce, runs
from genreward_jax.paper_figures.match import match
from tests.figures_paper.conftest import flags, write_run

DONE = {0: [1.0], 600: [50.0]}


@pytest.fixture
def plan(plan_file):
    return plan_lib.read(plan_file)


def test_missing_and_unfinished_runs_are_trained_once_for_all_figures(plan, tmp_path):
    write_run(tmp_path / "bin_picking/dense/none/seed0", *flags(), returns=DONE)
    write_run(tmp_path / "bin_picking/dense/none/seed1", *flags(seed=1), returns={0: [1.0]})  # goes on where it is
    write_run(tmp_path / "elsewhere", *flags("shelf_place"), returns={0: [1.0]})
    jobs, said = reproduce.jobs(plan, ["5", "9"], tmp_path, "smoke")
    names = [job.name for job in jobs]
    assert len(names) == len(set(names)) == 6 + 2
    assert "bin_picking/dense/none/seed0" not in names and "bin_picking/dense/none/seed1" in names
    assert "shelf_place/dense/none/seed0" not in names  # it is there, under another name
    assert len(said) == 1 and "elsewhere is unfinished" in said[0]


def test_what_the_runner_makes_is_what_the_figure_then_finds(plan, tmp_path):
    """An injected runner in place of Ray writes each job's run where a sweep would."""
    made = []

    def runner(jobs, out):
        for job in jobs:
            write_run(out / job.name, *job.flags, returns=DONE)
            made.append(job.name)
        return {job.name: "finished" for job in jobs}

    folder = tmp_path / "runs"
    outcome = reproduce.make_up(plan, ["5", "9"], folder, "smoke", runner, say=lambda text: None)
    assert set(outcome.values()) == {"finished"} and len(made) == 10
    for name in ("5", "9"):
        assert match(plan, plan.figure(name), runs.find(folder), "smoke").missing == []
    assert reproduce.make_up(plan, ["5", "9"], folder, "smoke", runner, say=lambda text: None) == {}
    assert len(made) == 10


def test_an_unknown_method_is_refused_before_anything_is_trained(plan_file, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(plan_file.read_text().replace("{method: none}", "{method: nonne}"))
    with pytest.raises(UserError, match="nonne"):
        reproduce.jobs(plan_lib.read(file), ["5"], tmp_path, "smoke")
