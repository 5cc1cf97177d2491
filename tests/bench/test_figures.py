"""What the benchmark says of what it measured."""

import pytest

from genreward_jax.bench.figures import Figure, Item, Ratio, in_turns, markdown, quotients, table


def test_variants_take_turns_and_each_begins_once():
    calls = []

    def variant(name):
        def measure():
            calls.append(name)
            return len(calls)

        return measure

    found = in_turns({name: variant(name) for name in "abc"}, 3)
    assert calls == list("abcbcacab")
    assert found == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_quotients_are_of_the_same_round():
    assert quotients([2, 9], [1, 3]) == [2, 3]
    with pytest.raises(ValueError):
        quotients([1], [1, 2])


def test_a_goal_is_judged_by_the_median():
    assert Ratio("speed", "", [0.9, 0.98, 0.99], goal=0.97).as_dict()["reached"] is True
    assert Ratio("speed", "", [0.9, 0.96, 0.99], goal=0.97).as_dict()["reached"] is False
    assert Ratio("speed", "", [5.0]).as_dict()["reached"] is None


def test_the_table_shows_median_spread_unit_goal_and_notes():
    item = Item("steps", [Figure("plain", "ms", [1, 30, 2]), Ratio("ours / plain", "", [0.5], goal=0.97)], ["on noise"])
    lines = table({"2": item.as_dict()}).splitlines()
    assert lines[0] == "2. steps"
    assert lines[1].split() == ["plain", "2", "ms", "[1", "to", "30,", "3", "rounds]"]
    assert lines[2].split() == ["ours", "/", "plain", "0.5", "goal", "0.97:", "NOT", "reached"]
    assert lines[3].strip() == "(on noise)"


def test_the_same_as_a_table_for_a_document():
    item = Item("steps", [Figure("plain", "ms", [1, 30, 2]), Ratio("ours / plain", "", [0.5], goal=0.97)])
    assert markdown({"2": item.as_dict()}).splitlines() == [
        "2. steps",
        "",
        "| | median | from | to | |",
        "|---|---|---|---|---|",
        "| plain | 2 ms | 1 | 30 |  |",
        "| ours / plain | 0.5 |  |  | goal 0.97: not reached |",
    ]
