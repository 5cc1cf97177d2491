"""Words about episodes, and who may see which task."""

import re

import pytest

from genreward_jax.config import read_yaml
from genreward_jax.demonstrations import captions, render, split
from genreward_jax.envs.metaworld import TASKS


def test_forty_tasks_are_trained_on_and_ten_are_not():
    groups = [set(split.tasks_of(group)) for group in split.GROUPS]
    assert [len(group) for group in groups] == [40, 5, 5]
    assert set().union(*groups) == set(TASKS)
    paper = {"pick_place", "pick_out_of_hole", "bin_picking", "shelf_place", "disassemble"}
    assert set(split.tasks_of("paper")) == paper


def test_near_relatives_are_named_for_each_of_the_papers_tasks_and_are_trained_on():
    relatives = read_yaml("split")["near_relatives"]
    assert set(relatives) == set(split.tasks_of("paper"))
    assert set().union(*relatives.values()) <= set(split.tasks_of("training"))


def test_no_rendered_data_set_shares_a_seed_or_a_task_where_it_must_not():
    seeds = {}
    for group in ("training", "experts", "evaluation"):
        for portion in render.plan(group):
            number = sum(count for _, count in portion.counts)
            seeds.setdefault(group, set()).update(range(portion.first_seed, portion.first_seed + number))
    assert not seeds["training"] & (seeds["experts"] | seeds["evaluation"])
    assert not seeds["experts"] & seeds["evaluation"]
    assert {p.task for p in render.plan("training")} == set(split.tasks_of("training"))
    assert {p.task for p in render.plan("experts")} == set(split.tasks_of("paper"))
    assert {p.quality for p in render.plan("training")} == {"fast", "full"}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_sentences_of_every_kind(task):
    assert len(set(captions.episode_captions(task))) >= 10
    for phase in captions.PHASES:
        said = captions.phase_captions(task, phase)
        assert said and not any(re.search(r"[{}]|  ", text) for text in said)


def test_the_vocabulary_is_that_of_the_tasks_given_and_nothing_else():
    known = set(captions.vocabulary(split.tasks_of("training")))
    assert {"robot", "drawer", "done", ":"} <= known
    assert "bin" not in known  # bin-picking alone has one


def test_the_prompts_of_training_tasks_hold_no_unknown_word():
    known = set(captions.vocabulary(split.tasks_of("training")))
    words = read_yaml("tasks")
    for task in split.tasks_of("training"):
        for text in (words[task]["prompt"], *words[task]["key_frame"]):
            assert set(re.findall(r"\w+", text.lower())) <= known, (task, text)
