"""When things happen: rates by hand, stages, and what falls due."""

import math

import pytest
from pydantic import ValidationError

from generator.calendar import Calendar
from generator.config import TrainSettings
from generator.tuning.tuning import Stage

ALL = Stage("all", 0, frozenset({"w"}))


def test_an_epoch_draws_each_instance_once_on_average():
    settings = TrainSettings(epochs=5, batch_size=4, accumulation=2)
    calendar = Calendar.of(settings, 33, [ALL])
    assert (calendar.unit, calendar.steps) == (math.ceil(33 / 8), 25)
    assert Calendar.of(TrainSettings(steps=70), 33, [ALL]).steps == 70
    assert Calendar.of(TrainSettings(epochs=3, batch_size=64), 10, [ALL]).steps == 3


@pytest.mark.parametrize(("size", "steps"), [(4, 10), (2, 20), (1, 40)])
def test_clean_crops_are_no_part_of_an_epoch(size, steps):
    settings = TrainSettings(epochs=1, batch_size=size)
    assert Calendar.of(settings, 30, [ALL], clean_share=0.25).steps == steps


def test_milestones_count_in_epochs_where_the_length_does():
    settings = TrainSettings(
        epochs=250,
        batch_size=4,
        learning_rate=1e-4,
        warmup_steps=0,
        schedule="milestones",
        milestones={100: 5e-5, 175: 2e-5},
    )
    calendar = Calendar.of(settings, 20, [ALL])
    assert calendar.unit == 5
    rates = {epoch: calendar.rate(epoch * 5) for epoch in (0, 99, 100, 174, 175, 249)}
    assert rates == {0: 1e-4, 99: 1e-4, 100: 5e-5, 174: 5e-5, 175: 2e-5, 249: 2e-5}
    assert calendar.rate(499) == 1e-4


def test_warm_up_then_half_a_cosine():
    settings = TrainSettings(steps=120, warmup_steps=20, learning_rate=1e-3, final_rate=0.1)
    calendar = Calendar.of(settings, 9, [ALL])
    assert calendar.rate(0) == pytest.approx(1e-3 / 20)
    assert calendar.rate(19) == pytest.approx(1e-3)
    assert calendar.rate(70) == pytest.approx(1e-3 * (0.1 + 0.9 * 0.5))
    assert calendar.rate(120) == pytest.approx(1e-4)
    constant = Calendar.of(settings.model_copy(update={"schedule": "constant"}), 9, [ALL])
    assert constant.rate(20) == constant.rate(119) == 1e-3


def test_stages_follow_one_another_with_their_own_rate():
    late = Stage("late", 2, frozenset({"v"}), rate=0.1)
    settings = TrainSettings(epochs=4, batch_size=2, schedule="constant", warmup_steps=0)
    calendar = Calendar.of(settings, 6, [late, ALL])
    assert [calendar.stage(step).name for step in (0, 5, 6, 11)] == ["all", "all", "late", "late"]
    assert calendar.rate(6) == pytest.approx(1e-4)


def test_what_happens_every_second_epoch():
    calendar = Calendar.of(TrainSettings(epochs=4, batch_size=2), 6, [ALL])
    assert [step for step in range(1, 13) if calendar.due(2, step)] == [6, 12]
    assert not any(calendar.due(0, step) for step in range(1, 13))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"steps": 3, "epochs": 3}, "steps or epochs, not both"),
        ({"milestones": {3: 1e-4}}, "milestones go with schedule"),
        ({"schedule": "milestones"}, "milestones go with schedule"),
    ],
)
def test_lengths_that_contradict_each_other_are_refused(content, said):
    with pytest.raises(ValidationError, match=said):
        TrainSettings(**content)


def test_the_length_is_1600_steps_unless_something_is_said():
    assert TrainSettings().steps == 1600
    assert TrainSettings(epochs=3).steps is None
