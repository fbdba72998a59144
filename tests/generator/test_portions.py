"""Work is cut into portions that fit, whatever else is in memory."""

import gc
import weakref

import pytest
import torch

from generator.portions import Portions


class Room:
    """Holds `space` rows at once; remembers what it was asked for."""

    def __init__(self, space):
        self.space = space
        self.asked = []

    def work(self, rows):
        self.asked.append(len(rows))
        if len(rows) > self.space:
            raise torch.OutOfMemoryError("no room")
        return [row * 10 for row in rows]


def test_all_rows_in_order_and_none_twice_when_memory_runs_out():
    portions, room = Portions(8), Room(3)
    made = list(portions.over(range(11), room.work))
    assert [row for rows, _ in made for row in rows] == list(range(11))
    assert [value for _, values in made for value in values] == [10 * k for k in range(11)]
    assert room.asked == [8, 4, 2, 2, 2, 2, 2, 1]
    # It is not tried in vain again.
    list(portions.over(range(4), room.work))
    assert room.asked[8:] == [2, 2]


def test_a_last_portion_that_is_smaller_is_halved_by_its_own_size():
    portions, room = Portions(16), Room(2)
    list(portions.over(range(5), room.work))
    assert room.asked == [5, 3, 2, 2, 1]


def test_what_was_done_before_memory_ran_out_is_kept():
    portions, room = Portions(4), Room(4)
    made = portions.over(range(8), room.work)
    assert next(made) == (range(4), [0, 10, 20, 30])
    room.space = 2
    assert [list(rows) for rows, _ in made] == [[4, 5], [6, 7]]


def test_one_row_that_does_not_fit_is_the_callers_to_explain():
    room = Room(0)
    with pytest.raises(torch.OutOfMemoryError):
        list(Portions(4).over(range(4), room.work))
    assert room.asked == [4, 2, 1]


def test_what_did_not_fit_is_let_go_before_the_next_try():
    held, alive = [], []

    def work(rows):
        gc.collect()
        alive.append(sum(ref() is not None for ref in held))
        tensor = torch.zeros(len(rows))
        held.append(weakref.ref(tensor))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("no room")

    list(Portions(4).over(range(2), work))
    assert alive == [0, 0, 0]
