"""The queue of what was asked in the App: only added to, resumed, and the same after a kill."""

import multiprocessing

import pytest

from augmentor.errors import BusyError, ProjectError
from augmentor.workflows import queue
from augmentor.workflows.more import Worker, likeness, requests_of
from augmentor.workflows.queue import Asked, Finished, Progress
from augmentor.workflows.reporting import Silent
from generator.records import SyntheticDefect

TIME = "2026-11-21T10:00:00+00:00"


def asked(name: str, kind: queue.Kind = "again", *samples: str, number: int = 1) -> Asked:
    return Asked(id=name, kind=kind, sample_ids=samples, number=number, who="me", time=TIME)


def record(name: str, **changes) -> SyntheticDefect:
    values = {
        "id": name,
        "class_name": "pit",
        "index": 7,
        "seed": 11,
        "generator": "copy-paste",
        "fingerprint": "f",
        "image": f"images/{name}.png",
        "mask": f"masks/{name}.png",
        "width": 200,
        "height": 100,
        "grey": True,
        "boxes_xyxy": ((20, 10, 40, 30), (60, 30, 80, 50)),
        "mask_kind": "exact",
        "background_id": "b",
        "mask_source_id": "m",
        "source_ids": ("b", "m"),
        "feather_px": 3,
        "crop_xyxy": (0, 0, 100, 60),
        "verdict": "accepted",
    }
    return SyntheticDefect(**(values | changes))


def test_what_is_not_finished_is_pending_in_order(tmp_path):
    assert queue.pending(tmp_path) == []
    lines = [asked("1", "again", "a"), asked("2", "again", "b"), asked("3", "rebuild")]
    queue.append(tmp_path, lines)
    queue.append(tmp_path, [Finished(asked="2", made=("x",), time=TIME)])
    assert [one.id for one in queue.pending(tmp_path)] == ["1", "3"]


def test_a_line_that_a_kill_cut_off_is_passed_over_and_mended(tmp_path):
    queue.append(tmp_path, [asked("1", "again", "a")])
    path = tmp_path / queue.QUEUE
    path.write_bytes(path.read_bytes() + b'{"asked": {"id": "ha')
    assert [one.id for one in queue.pending(tmp_path)] == ["1"]
    queue.append(tmp_path, [asked("2", "again", "a")])
    assert [one.id for one in queue.pending(tmp_path)] == ["1", "2"]


def test_a_damaged_line_is_named_with_what_to_do(tmp_path):
    queue.append(tmp_path, [asked("1", "again", "a")])
    path = tmp_path / queue.QUEUE
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(ProjectError, match=r"queue.jsonl, line 1 .*delete that line"):
        queue.read(tmp_path)


def test_only_one_process_works_a_queue_off(tmp_path):
    with queue.sole_worker(tmp_path) as mine:
        assert mine
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_is_mine, (tmp_path,)) is False
    with queue.sole_worker(tmp_path) as mine:
        assert mine


def _is_mine(folder) -> bool:
    with queue.sole_worker(folder) as mine:
        return mine


def test_requests_follow_from_the_place_in_the_queue(tmp_path):
    lines = [
        asked("1", "again", "a", "b"),
        asked("2", "more", "a", number=2),
        asked("3", "again", "a"),
        asked("4", "more", "a", number=1),
    ]
    records = {"a": record("a"), "b": record("b", seed=12)}
    of = {one.id: requests_of(one, lines, records) for one in lines}
    seeds = [request.seed for requests in of.values() for request in requests]
    assert len(set(seeds)) == len(seeds) == 6
    assert of == {one.id: requests_of(one, lines, records) for one in lines}
    (first, second), (again,) = of["1"], of["3"]
    assert (first.class_name, first.index, first.like, first.origin) == ("pit", 7, None, "a")
    assert second.origin == "b"
    assert again.index == 7
    # the centre of both boxes together, as shares of 200 x 100 px
    assert of["2"][0].like.centre_xy == pytest.approx((0.25, 0.3))
    assert [request.index for request in of["2"] + of["4"]] == [0, 1, 2]
    assert requests_of(asked("5", "more", "gone"), [*lines, asked("5", "more", "gone")], {}) == []


def test_a_sample_without_a_place_has_no_likeness():
    whole = record("a", mask=None, boxes_xyxy=(), mask_kind="none", mask_source_id=None)
    assert likeness(whole) is None


def test_more_like_a_sample_of_several_defects_asks_for_several():
    two, one = record("a"), record("a", boxes_xyxy=((10, 10, 30, 30),))
    drawn = record("a", mask_source_id="procedural:pit")  # one shape, painted in two parts
    assert [likeness(each).several for each in (two, one, drawn)] == [True, False, False]


def test_progress_is_nothing_until_it_is_said(tmp_path):
    assert queue.read_progress(tmp_path) == Progress()
    queue.write_progress(tmp_path, Progress(task="Making", done=1, total=2, waiting=3))
    assert queue.read_progress(tmp_path).done == 1


def test_what_was_asked_for_waits_for_the_command_that_is_at_work(tmp_path, monkeypatch):
    worker = Worker(tmp_path, "tiles-mixed", Silent(), lambda: None)
    queue.append(tmp_path, [asked("1", "rebuild"), asked("2", "rebuild")])
    done = []

    def do(one):
        if len(done) == 1 and "free" not in done:
            raise BusyError("`augment loop` is at work; when it has ended, type the same again.")
        done.append(one.id)
        return [], []

    monkeypatch.setattr(worker, "_do", do)
    worker._work_off()
    worker._work_off()
    assert [one.id for one in queue.pending(tmp_path)] == ["2"]
    assert "is at work" in queue.read_progress(tmp_path).said
    done.append("free")
    worker._work_off()
    assert queue.pending(tmp_path) == [] and queue.read_progress(tmp_path).said == ""
