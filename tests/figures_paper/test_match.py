"""Which runs are a figure's: by their settings and never by their names; what does not go together is refused."""

import pytest

from genreward_jax.errors import UserError
from genreward_jax.paper_figures import plan as plan_lib
from genreward_jax.paper_figures import runs
from genreward_jax.paper_figures.match import match
from genreward_jax.paper_figures.read_flags import reads
from tests.figures_paper.conftest import flags, write_run

RETURNS = {0: [1.0], 600: [50.0, 150.0]}


@pytest.fixture
def plan(plan_file):
    return plan_lib.read(plan_file)


def matched(plan, folder, name="5", preset=""):
    return match(plan, plan.figure(name), runs.find(folder), preset)


def test_runs_are_found_by_their_settings_whatever_they_are_called(plan, tmp_path):
    write_run(tmp_path / "x" / "y" / "odd name", *flags(method="genreward", seed=1), returns=RETURNS)
    write_run(tmp_path / "bin_picking/dense/genreward/seed0", *flags("shelf_place"), returns=RETURNS)
    write_run(tmp_path / "other", *flags("reach"), returns=RETURNS)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.yaml").write_text("seed: 1\nname: somebody else's\n")
    found = matched(plan, tmp_path)
    assert {cell: [run.path.name for run in there] for cell, there in found.runs.items()} == {
        ("bin_picking", "Dense"): [],
        ("bin_picking", "GenReward"): ["odd name"],
        ("shelf_place", "Dense"): ["seed0"],
        ("shelf_place", "GenReward"): [],
    }
    assert found.preset == "smoke"
    missing = {(wanted.task, wanted.line.method, wanted.seed) for wanted in found.missing}
    assert len(missing) == 6 and ("bin_picking", "genreward", 1) not in missing


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--run.train_ratio", "16"),
        ("--env.metaworld.repeat", "1"),
        ("--reward.alpha", "0.5"),
        ("--goal.source", "expert"),
        ("--goal.image", "first.png"),
    ],
)
def test_two_runs_that_disagree_are_named_with_the_flag(plan, tmp_path, flag, value):
    write_run(tmp_path / "a", *flags(method="genreward"), returns=RETURNS)
    write_run(tmp_path / "b", *flags(method="genreward", seed=1), flag, value, returns=RETURNS)
    with pytest.raises(UserError) as said:
        matched(plan, tmp_path)
    text = str(said.value)
    assert all(word in text for word in (str(tmp_path / "a"), str(tmp_path / "b"), flag[2:], value))
    assert text.count("disagree in") == 1 and "\n" not in text


def test_what_may_differ_does(plan, tmp_path):
    """Steps, evaluation and place; a method's own flags between methods; what rewards read, where there is none."""
    write_run(tmp_path / "a", *flags(method="genreward"), "--run.steps", "900", returns=RETURNS)
    write_run(tmp_path / "b", *flags(method="genreward", seed=1), "--eval.episodes", "3", returns=RETURNS)
    write_run(tmp_path / "c", *flags(), "--reward.alpha", "7", "--goal.prompt", "x", returns=RETURNS)
    assert len(matched(plan, tmp_path).all) == 3


@pytest.mark.parametrize(
    ("flag", "value"), [("goal.source", "expert"), ("goal.prompt", "lift it"), ("model.dtype", "bfloat16")]
)
def test_methods_are_compared_with_each_other_and_not_with_dense_alone(tmp_path, flag, value):
    """Dense is found first and reads none of these flags; GenReward and ours both do."""
    write_run(tmp_path / "a", *flags(), returns=RETURNS)
    write_run(tmp_path / "b", *flags(method="genreward"), returns=RETURNS)
    write_run(tmp_path / "c", *flags(method="genreward_plus"), f"--{flag}", value, returns=RETURNS)
    with pytest.raises(UserError, match=f"{tmp_path / 'b'} and {tmp_path / 'c'} disagree in {flag} "):
        matched(plan_lib.read(), tmp_path)


def test_flags_that_a_method_never_reads_may_differ(tmp_path):
    """Each run names a model or a weight of its own method, which the others do not look at."""
    write_run(tmp_path / "a", *flags(method="genreward"), "--reward.weight", "3", "--reward.toward", "goal",
              returns=RETURNS)  # fmt: skip
    roboclip = [*flags(method="roboclip"), "--model.video_text", "s3d", "--reward.interval", "64", "--fb.dim", "7"]
    write_run(tmp_path / "b", *roboclip, returns=RETURNS)
    write_run(tmp_path / "c", *flags(method="tadpole"), "--model.diffusion", "sd", "--reward.alpha", "3",
              returns=RETURNS)  # fmt: skip
    assert len(matched(plan_lib.read(), tmp_path).all) == 3
    write_run(tmp_path / "d", *flags(method="roboclip", seed=1), returns=RETURNS)
    with pytest.raises(UserError, match="b and .*d disagree in model.video_text"):
        matched(plan_lib.read(), tmp_path)


def test_what_each_method_reads_follows_from_its_entry_and_its_classes():
    read = {
        "reward.interval": {"genreward", "genreward_no_video", "random"},
        "reward.weight": {"roboclip", "tadpole", "viper"},
        "reward.toward": {"roboclip"},
        "reward.alpha": {"genreward", "random"},
        "reward.beta": {"genreward", "genreward_no_video"},
        "reward.fb_interval": {"genreward", "genreward_no_video"},
        "fb.objective": {"genreward", "genreward_no_video"},
        "model.video_text": {"roboclip"},
        "model.diffusion": {"tadpole", "viper"},
        "goal.source": {"genreward", "genreward_no_video", "random", "roboclip", "tadpole", "viper"},
    }
    every = {"none", *read["goal.source"]}
    assert {flag: {method for method in every if reads(method, flag)} for flag in read} == read
    assert all(reads("none", flag) for flag in ("run.train_ratio", "env.metaworld.repeat"))
    assert reads("no_such_method", "reward.alpha")  # nothing is known of it, so everything counts


def test_the_same_goal_file_must_have_held_the_same(plan, tmp_path):
    for seed, digest in enumerate(("one", "other")):
        run = tmp_path / f"run{seed}"
        write_run(run, *flags(method="genreward", seed=seed), "--goal.source", "goal.mp4", returns=RETURNS)
        (run / "goal").mkdir()
        (run / "goal" / "goal.json").write_text(f'{{"digest": "{digest}"}}')
    with pytest.raises(UserError, match="run0 and .*run1 both name the goal goal.mp4.*one and other"):
        matched(plan, tmp_path)
    (tmp_path / "run1" / "goal" / "goal.json").write_text('{"digest": "one"}')
    assert len(matched(plan, tmp_path).all) == 2


def test_two_presets_are_refused_unless_one_is_named(plan, tmp_path):
    write_run(tmp_path / "a", *flags(), returns=RETURNS)
    write_run(tmp_path / "b", *flags(seed=1), "--preset", "cpu", returns=RETURNS)
    with pytest.raises(UserError, match="disagree in preset .smoke and cpu.*PRESET="):
        matched(plan, tmp_path)
    assert [run.path.name for run in matched(plan, tmp_path, preset="cpu").all] == ["b"]


def test_the_same_training_twice_is_refused(plan, tmp_path):
    write_run(tmp_path / "a", *flags(), returns=RETURNS)
    write_run(tmp_path / "b", *flags(), returns=RETURNS)
    with pytest.raises(UserError, match="a and .*b are the same training"):
        matched(plan, tmp_path)


def test_a_run_of_another_figure_is_left_to_it(plan, tmp_path):
    """Figure 9 varies alpha on bin_picking; its runs are not held against Figure 5's."""
    write_run(tmp_path / "plain", *flags(method="genreward"), returns=RETURNS)
    write_run(tmp_path / "one", *flags(method="genreward"), "--reward.alpha", "1", returns=RETURNS)
    five, nine = matched(plan, tmp_path), matched(plan, tmp_path, "9")
    assert [run.path.name for run in five.all] == ["plain"]
    assert five.notes == ["left to Figure 9, which varies reward.alpha: 1 run"]
    assert nine.runs["bin_picking", "α = 1"][0].path.name == "one"
    assert nine.runs["bin_picking", "α = 1e-2"][0].path.name == "plain"
    assert {(wanted.line.label, wanted.seed) for wanted in nine.missing} == {("α = 1e-2", 1), ("α = 1", 1)}


def test_the_command_of_a_missing_run_makes_that_run(plan, tmp_path):
    from genreward_jax.paper_figures.make import commands

    write_run(tmp_path / "plain", *flags(method="genreward"), returns=RETURNS)
    lines = commands(matched(plan, tmp_path, "9"), tmp_path)
    for number, line in enumerate(lines):
        words = line.split()
        assert words[:4] == ["python", "-m", "genreward_jax", "train"]
        at = words.index("--logdir")
        write_run(tmp_path / f"made{number}", *words[4:at], returns=RETURNS)
        assert words[at + 1].startswith(str(tmp_path))
    assert matched(plan, tmp_path, "9").missing == [] and len(lines) == 3


def test_damaged_runs_and_folders_that_are_not_there_are_sentences(tmp_path):
    with pytest.raises(UserError, match="no folder .*RUNS="):
        runs.find(tmp_path / "nowhere")
    write_run(tmp_path / "a", *flags(), returns=RETURNS)
    (tmp_path / "a" / "config.yaml").write_text("{")
    with pytest.raises(UserError, match="a/config.yaml cannot be read"):
        runs.find(tmp_path)


def test_evaluations_of_several_environments_stand_at_the_step_they_were_aimed_at(tmp_path):
    write_run(tmp_path / "a", *flags(), "--run.envs", "4", returns={0: [1.0], 303: [2.0], 600: [3.0]})
    (run,) = runs.find(tmp_path)
    assert [evaluation.step for evaluation in run.evaluations] == [0, 300, 600] and run.finished


def test_the_plan_refuses_what_there_is_not(plan_file, tmp_path):
    text = plan_file.read_text()
    for old, new, said in (
        ("kind: strips", "kind: strip", "did you mean strips"),
        ("reward.alpha: 1.0", "reward.alhpa: 1.0", "did you mean reward.alpha"),
        ("method: none}", "methd: none}", "names no method"),
        ("tasks: [bin_picking, shelf_place]", "tasks: [bin_pickin]", "bin_picking"),
        ("presets:", "preset:", "needs 'presets'"),
        ("  cpu: {", "  cup: {", "no preset 'cup'"),
        ("files: {}", "files: {Bridge: /nowhere.mp4}", "no goal video at '/nowhere.mp4'"),
    ):
        file = tmp_path / "wrong.yaml"
        file.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=said):
            plan_lib.read(file)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds: [0, 1], says", "seeds: 0, says", "preset smoke: 'seeds' is 0; it must be a list of whole numbers"),
        ("seeds: [0, 1], says", "seeds: [a], says", r"'seeds' is \['a'\]; it must be a list of whole numbers"),
        ("seeds: [0, 1], says", "seeds: [true], says", "it must be a list of whole numbers"),
        ("seeds: [0, 1], says", "says", "preset smoke: it names no seeds"),
        ("smoke: {", "smoke: 3 # {", "'presets' is .*it must be a block of presets"),
        ("smoke: {", "7: {", "there is no preset '7'"),
        ("seeds: [0]\n", "seeds: [-1]\n", "figure 6: 'seeds' is .*whole numbers from 0"),
        ("Dense: {method: none}\n", "Dense: none\n", "figure 5: 'lines' is .*it must be a block of lines"),
        ("files: {}", "files: [a.mp4]", r"'files' is \['a.mp4'\]; it must be a block of videos"),
        ("files: {}", "files: {Bridge: {file: 3}}", "video Bridge: 'file' is 3; it must be words"),
        ("tasks: [bin_picking, shelf_place]", "tasks: pick_place", "'tasks' is 'pick_place'; it must be a list"),
        ("printed:\n      bin_picking: {Dense: 398, GenReward: 822}", "printed: {bin_picking: 3}", "block of numbers"),
        ("reward.alpha: 1.0", "reward.alpha: [1.0]", "sets reward.alpha to .*it must be a number or a word"),
        ("title: strips", "title: [strips]", "'title' is .*it must be words"),
        ("groups:\n      - {tasks", "groups:\n        {tasks", "figure 6: 'groups' is .*it must be a list of groups"),
    ],
)  # fmt: skip
def test_a_value_of_another_form_is_a_sentence(plan_file, tmp_path, old, new, said):
    text = plan_file.read_text()
    assert old in text
    file = tmp_path / "wrong.yaml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=said):
        plan_lib.read(file)


def test_a_plan_without_figures_is_a_sentence(tmp_path):
    file = tmp_path / "wrong.yaml"
    for text, said in (("figures: []", "must be a block of figures"), ("figures: {}", "holds no figure")):
        file.write_text(f"presets: {{smoke: {{seeds: [0]}}}}\n{text}\n")
        with pytest.raises(UserError, match=said):
            plan_lib.read(file)


def test_named_goal_videos_are_lines(plan_file, tmp_path):
    video = tmp_path / "bridge.mp4"
    video.touch()
    file = tmp_path / "mine.yaml"
    file.write_text(
        plan_file.read_text().replace("files: {}", f"files: {{Bridge: {{file: {video}, prompt: pick it}}}}")
    )
    mine = plan_lib.read(file)
    assert not mine.figure("10").asks and plan_lib.read(plan_file).figure("10").asks
    write_run(tmp_path / "a", *flags(method="genreward"), "--goal.source", str(video), "--goal.prompt", "pick it",
              returns=RETURNS)  # fmt: skip
    write_run(tmp_path / "b", *flags(method="genreward", seed=1), returns=RETURNS)  # another goal: not the figure's
    found = matched(mine, tmp_path, "10")
    assert [run.path.name for run in found.runs["bin_picking", "Bridge"]] == ["a"]


def test_the_projects_own_plan_asks_for_what_there_is():
    """Every figure of the paper, known methods, and jobs that the sweep accepts."""
    own = plan_lib.read()
    assert list(own.figures) == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "A"]
    jobs = {wanted.job("smoke") for figure in own.figures.values() for wanted in own.wanted(figure, "smoke")}
    assert len({job.name for job in jobs}) == len(jobs) == 30 + 6 + 8 + 1
    assert len(own.wanted(own.figure("5"), "smoke")) == 30
    printed = own.figure("5").printed
    assert printed["shelf_place"] == {"Dense": 154, "GenReward": 783}
    with pytest.raises(UserError, match="no figure '12'"):
        own.figure("12")
