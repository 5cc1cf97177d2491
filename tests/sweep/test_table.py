"""What a person reads while a sweep runs."""

from genreward_jax.sweep.table import FAILED, FINISHED, RUNNING, WAITING, Row, Screen, left, summary, table

ROWS = [
    Row("reach/dense/none/seed0", 100, FINISHED, 100, 0),
    Row("reach/dense/none/seed1", 100, RUNNING, 50, 0, "node1"),
    Row("reach/dense/none/seed2", 100, WAITING),
    Row("reach/dense/none/seed3", 100, FAILED, 10, 0),
]


def test_the_time_left_is_that_of_the_steps_left_at_the_speed_so_far():
    assert left(ROWS, 80) == 150 * 80 / 160  # a failed run's steps are not waited for
    assert left(ROWS[2:3], 80) is None
    gone_on = [Row("a", 100, RUNNING, 80, 60)]  # of 80 steps, 60 were there before
    assert left(gone_on, 10) == 10


def test_the_sum_in_one_line():
    assert summary(ROWS, 80) == (
        "1 running, 1 waiting, 1 done, 1 failed (of 4); 40% of all steps in 80 s, about 75 s left"
    )


def test_the_table_shows_what_runs_first_and_fits():
    lines = table(ROWS, 80, 100, 24)
    assert len(lines) == 5
    assert lines[0].split() == "reach/dense/none/seed1 running 50% 50 of 100 node1".split()
    assert "failed" in lines[1]
    short = table(ROWS, 80, 60, 6)
    assert len(short) == 4 and short[2] == "  and 1 waiting, 1 done" and max(map(len, short)) < 60
    again = table([Row("a", 10, RUNNING, 5, tries=1, node="n", note="storing")], 1, 100, 24)[0]
    assert again.endswith("n  try 2  storing")


def test_without_a_terminal_there_are_few_lines_and_no_control_characters():
    said = []
    screen = Screen(said.append)
    for _ in range(50):
        screen.show(ROWS, 80)
    assert said == []
    screen.say("reach is done.")
    screen.show(ROWS, 80, now=True)
    assert said == ["reach is done.", summary(ROWS, 80)]


def test_in_a_terminal_the_table_is_drawn_over_itself(capsys, monkeypatch):
    screen = Screen(print)
    screen.draws = True
    screen.show(ROWS, 80)
    screen.say("reach is done.")
    screen.show(ROWS, 81)
    text = capsys.readouterr().out
    assert text.count("\x1b[5A\x1b[J") == 1 and text.index("\x1b[5A") < text.index("reach is done.")
