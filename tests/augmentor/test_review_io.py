"""The review's side of FiftyOne: the log's mirror, the order of review, neighbours; real mongod."""

import time

import fiftyone.brain as fob
import numpy as np
import pytest
from small_records import CLASSES, real, synthetic

from augmentor.decisions import Standing
from augmentor.errors import DatabaseError
from augmentor.fiftyone_io import (
    Embedded,
    Nearest,
    add_new,
    chosen_samples,
    connect,
    dataset_info,
    mirror,
    note,
    overview,
    prepare_views,
    register_mix,
    show_embeddings,
    with_sources,
)
from augmentor.fiftyone_io.brain import _paired
from augmentor.fiftyone_io.views import class_titles
from generator.records import GOOD, Verdict


@pytest.fixture(scope="module")
def fo():
    return connect()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("review")


@pytest.fixture
def records(data):
    return [
        real(data, 0, GOOD, "train"),
        real(data, 1, "pit", "train"),
        real(data, 2, "scratch", "val"),
        real(data, 3, "pit", "test"),
    ]


def standing(name: str, **changes) -> Standing:
    return Standing(sample_id=name, who="me", time="2026-11-21T10:00:00+00:00", **changes)


def by_id(dataset) -> dict:
    dataset.reload()
    return {sample.augment_id: sample for sample in dataset}


def test_the_mirror_shows_what_the_log_says_and_takes_it_back(fo, data, records):
    register_mix("mirror", records, [synthetic(data, k) for k in range(3)], CLASSES, {})
    dataset = fo.load_dataset("mirror")
    log = {
        "syn-0": standing("syn-0", verdict="rejected", reason="off the part"),
        "syn-1": standing("syn-1", verdict="accepted"),
    }
    assert mirror("mirror", log) == 2
    found = by_id(dataset)
    assert found["syn-0"].tags == ["synthetic", "train", "rejected"]
    assert found["syn-0"].review.reason == "off the part"
    assert found["syn-1"].tags == ["synthetic", "train", "accepted"]
    assert found["syn-2"].review is None
    assert mirror("mirror", log) == 0
    assert mirror("mirror", {"syn-1": log["syn-1"]}, ["syn-0"]) == 1
    assert by_id(dataset)["syn-0"].tags == ["synthetic", "train"]
    assert by_id(dataset)["syn-0"].review is None


def test_a_relabelled_sample_changes_its_own_boxes_and_mask_and_can_go_back(fo, data, records):
    carried = real(data, 8, "scratch", "train", box=(35, 25, 47, 33)).instances
    sample = synthetic(data, 0, "scratch", carried_instances=carried)
    register_mix("relabel", records, [sample], CLASSES, {})
    dataset = fo.load_dataset("relabel")
    before = by_id(dataset)["syn-0"].segmentation.mask.copy()
    mirror("relabel", {"syn-0": standing("syn-0", class_name="pit")})
    now = by_id(dataset)["syn-0"]
    assert now.defect.label == "pit"
    assert [d.label for d in now.ground_truth.detections] == ["pit", "pit", "scratch"]
    # 1 is pit, 2 scratch: the carried defect's pixels stay what they are
    assert np.array_equal(now.segmentation.mask[4:9, 8:20], np.ones((5, 12)))
    assert (now.segmentation.mask[26:33, 35:45] == 2).any()
    mirror("relabel", {})
    back = by_id(dataset)["syn-0"]
    assert back.defect.label == "scratch"
    assert np.array_equal(back.segmentation.mask, before)


def test_whoever_gives_a_sample_another_class_wants_it(fo, data, records):
    samples = [synthetic(data, k, "scratch") for k in range(3)]
    register_mix("wanted", records, samples, CLASSES, {})
    prepare_views("wanted", CLASSES)
    refused = standing("syn-1", class_name="pit", verdict="rejected")
    mirror("wanted", {"syn-0": standing("syn-0", class_name="pit"), "syn-1": refused})
    dataset = fo.load_dataset("wanted")
    held = {
        title: dataset.load_saved_view(title).values("augment_id")
        for title in ("accepted", "rejected by hand", "to review")
    }
    assert held == {"accepted": ["syn-0"], "rejected by hand": ["syn-1"], "to review": ["syn-2"]}
    counts = overview("wanted").counts
    assert (counts["pit"]["accepted"], counts["pit"]["rejected by hand"]) == (1, 1)
    assert counts["scratch"]["to review"] == 1


def test_views_of_a_persons_own_stay(fo, data, records):
    register_mix("own-views", records, [synthetic(data, 0)], CLASSES, {})
    dataset = fo.load_dataset("own-views")
    for title in ("Accepted", "Possible leaks"):
        dataset.save_view(title, dataset.limit(1), description="mine")
    for _ in range(2):
        prepare_views("own-views", CLASSES)
        register_mix("own-views", records, [synthetic(data, 0)], CLASSES, {})
    dataset.reload()
    for title in ("Accepted", "Possible leaks"):
        assert dataset.get_saved_view_info(title)["description"] == "mine"
    assert {"to review", "rejected by hand", "synthetic"} <= set(dataset.list_saved_views())
    assert "accepted" not in dataset.list_saved_views()


def test_a_persons_sidebar_and_colours_stay_and_new_fields_are_added(fo, data, records):
    register_mix("own-sidebar", records, [synthetic(data, 0)], CLASSES, {})
    prepare_views("own-sidebar", CLASSES)
    dataset = fo.load_dataset("own-sidebar")
    assert dataset.app_config.sidebar_groups[1].name == "labels"
    assert dataset.app_config.color_scheme.color_by == "value"
    mine = [
        fo.SidebarGroupDocument(name="first of all", paths=["review.verdict", "gone"]),
        fo.SidebarGroupDocument(name="scores", paths=["tags"], expanded=False),
    ]
    prepare_views("own-sidebar", CLASSES)  # as it was left: made anew
    dataset.reload()
    assert dataset.app_config.sidebar_groups[0].name == "tags"
    dataset.app_config.sidebar_groups = mine
    dataset.app_config.color_scheme = fo.ColorScheme(color_by="field")
    dataset.app_config.active_fields = fo.ActiveFields(paths=["defect"])
    dataset.save()
    prepare_views("own-sidebar", CLASSES)
    dataset.reload()
    groups = dataset.app_config.sidebar_groups
    assert [group.name for group in groups[:2]] == ["first of all", "scores"]
    assert groups[0].paths == ["review.verdict"]
    assert groups[1].paths[0] == "tags" and len(groups[1].paths) > 1 and not groups[1].expanded
    paths = [path for group in groups for path in group.paths]
    assert len(set(paths)) == len(paths) and {"ground_truth", "review.who"} <= set(paths)
    assert dataset.app_config.color_scheme.color_by == "field"
    assert dataset.app_config.active_fields.paths == ["defect"]


def test_a_class_that_came_after_the_build_can_be_given(fo, data, records):
    register_mix("later", records, [synthetic(data, 0, "scratch")], CLASSES, {})
    assert mirror("later", {"syn-0": standing("syn-0", class_name="dent")}) == 1
    dataset = fo.load_dataset("later")
    now = by_id(dataset)["syn-0"]
    assert now.defect.label == "dent"
    number = len(CLASSES) + 1
    assert dataset.default_mask_targets[number] == "dent" and "dent" in dataset.default_classes
    assert (now.segmentation.mask == number).any()


def test_scores_and_verdicts_are_rewritten_without_touching_corrected_labels(fo, data, records):
    register_mix("scores", records, [synthetic(data, 0)], CLASSES, {})
    dataset = fo.load_dataset("scores")
    corrected = by_id(dataset)["syn-0"]
    corrected.ground_truth.detections[0].label = "pit"
    corrected.save()
    verdict = Verdict(rule="realism", value=3.0, threshold=1.5, sentence="too far.")
    judged = synthetic(data, 0, scores={"realism": 3.0}, verdicts=(verdict,))
    assert register_mix("scores", records, [judged], CLASSES, {})["updated"] == 1
    sample = by_id(dataset)["syn-0"]
    assert sample.scores.distance_to_real == 3.0
    assert (sample.synthetic.rules, sample.synthetic.reasons) == (["realism"], ["too far."])
    assert sample.ground_truth.detections[0].label == "pit"


def test_the_worst_of_all_scores_comes_first(fo, data, records):
    scores = [(0.9, 1.0), (0.2, 1.0), (0.8, 9.0), (0.85, 2.0)]  # fill: low is bad; realism: high
    samples = [
        synthetic(data, k, scores={"fill": fill, "realism": realism})
        for k, (fill, realism) in enumerate(scores)
    ]
    register_mix("rank", records, samples[:3], CLASSES, {}, samples[3:])
    prepare_views("rank", CLASSES)
    view = fo.load_dataset("rank").load_saved_view("to review")
    # 1 and 2 have the worst value of a score; 2's other one is worse than 1's other one
    assert view.values("augment_id") == ["syn-2", "syn-1", "syn-3", "syn-0"]
    assert view.values("review_rank") == [1, 2, 3, 4]


def test_what_is_not_in_the_mix_is_there_too_and_what_is_new_is_tagged(fo, data, records):
    verdict = Verdict(rule="seam", value=3.0, threshold=1.5, sentence="a seam.")
    ruled_out = synthetic(data, 1, verdict="rejected", verdicts=(verdict,))
    counts = register_mix("other", records, [synthetic(data, 0)], CLASSES, {}, [ruled_out])
    assert counts["total"] == 5
    new = [synthetic(data, 0), synthetic(data, 2, scored_by="own-1")]
    assert add_new("other", new, CLASSES) == 1
    tags = {key: sample.tags for key, sample in by_id(fo.load_dataset("other")).items()}
    assert tags["syn-0"] == ["synthetic", "train"]
    assert tags["syn-1"] == ["synthetic", "not-in-mix"]
    assert tags["syn-2"] == ["synthetic", "not-in-mix", "new"]
    seen = overview("other")
    assert seen.counts["scratch"] == {
        "to review": 2, "accepted": 0, "rejected by hand": 0, "rejected by filter": 1
    }  # fmt: skip
    assert (seen.in_mix, seen.new, seen.scored_by) == ({"scratch": 1}, 1, ("own-1",))
    register_mix("other", records, [synthetic(data, 2)], CLASSES, {})
    assert by_id(fo.load_dataset("other"))["syn-2"].tags == ["synthetic", "train"]


def test_selected_real_images_are_passed_over_and_sources_are_found(fo, data, records):
    made = synthetic(data, 0, nearest_id=records[1].id)
    register_mix("chosen", records, [made], CLASSES, {})
    ids = {key: sample.id for key, sample in by_id(fo.load_dataset("chosen")).items()}
    chosen = chosen_samples("chosen", [ids["syn-0"], ids[records[1].id]])
    assert (chosen.synthetic, chosen.passed_over) == (("syn-0",), 1)
    shown, absent = with_sources("chosen", [ids["syn-0"]])
    assert shown == [ids["syn-0"], ids[records[0].id], ids[records[1].id]]
    assert absent == 0


def test_neighbours_duplicates_and_leaks_by_embedding(fo, data):
    train = [real(data, k, GOOD, "train") for k in range(4)]
    leaked, apart = real(data, 4, GOOD, "test"), real(data, 5, GOOD, "val")
    samples = [synthetic(data, k) for k in range(3)]
    register_mix("brain", [*train, leaked, apart], samples, CLASSES, {})
    angles = {train[k].id: k * 0.4 for k in range(4)}
    angles |= {leaked.id: 0.401, apart.id: 2.2}
    angles |= {"syn-0": 0.8, "syn-1": 0.81, "syn-2": 1.5}
    vectors = np.array([[np.cos(a), np.sin(a), 0] for a in angles.values()], np.float32)
    known = {"syn-2": Nearest(train[0].id, 0.5)}
    show_embeddings("brain", Embedded(list(angles), vectors, "own-abc"), known)
    dataset = fo.load_dataset("brain")
    found = by_id(dataset)
    assert found["syn-0"].neighbour.nearest == train[2].id
    assert found["syn-0"].neighbour.distance == pytest.approx(0, abs=1e-3)
    assert found["syn-0"].neighbour.extractor == "own-abc"
    assert found["syn-2"].neighbour.nearest == train[0].id  # what the filters found goes first
    assert found["syn-0"].duplicate.pair == found["syn-1"].duplicate.pair
    assert found["syn-2"].duplicate is None
    assert found[leaked.id].leak.nearest == train[1].id
    assert found[apart.id].leak is None
    prepare_views("brain", CLASSES)
    leaks = dataset.load_saved_view("possible leaks")
    assert leaks.values("augment_id") == [train[1].id, leaked.id]
    nearest = dataset.load_saved_view("nearest real neighbour").values("augment_id")
    assert nearest[:3] == [train[2].id, "syn-0", "syn-1"]
    assert sorted(dataset.list_brain_runs()) == ["map_own_abc", "similar_own_abc"]
    # what a person computed stays, ours of another extractor go
    theirs = {"brain_key": "similar_clip", "backend": "sklearn", "progress": False}
    fob.compute_similarity(dataset.limit(2), embeddings=vectors[:2], **theirs)
    show_embeddings("brain", Embedded(list(angles), vectors, "own-new"), known)
    dataset.reload()
    runs = ["map_own_new", "similar_clip", "similar_own_new"]
    assert sorted(dataset.list_brain_runs()) == runs
    show_embeddings("brain", Embedded(list(angles), vectors, "own-abc"), known)
    dataset.reload()
    most_alike = dataset.sort_by_similarity(found["syn-0"].id, k=3, brain_key="similar_own_abc")
    assert set(most_alike.values("augment_id")) == {"syn-0", "syn-1", train[2].id}
    assert dataset.load_brain_results("map_own_abc").points.shape == (9, 2)


def test_pairs_share_a_number_and_the_closest_is_first():
    found = {"a": Nearest("x", 0.5), "b": Nearest("y", 0.1), "c": Nearest("x", 0.2)}
    paired = _paired(found)
    assert {key: content["pair"] for key, content in paired.items()} == {
        "b": 1, "y": 1, "c": 2, "x": 2, "a": 2
    }  # fmt: skip
    assert paired["x"]["distance"] == 0


def test_a_dataset_from_before_there_was_a_review_is_mirrored_too(fo):
    dataset = fo.Dataset("before")
    pit = fo.Classification(label="pit")
    dataset.add_sample(fo.Sample("/a.png", tags=["synthetic"], augment_id="a", defect=pit))
    assert mirror("before", {"a": standing("a", verdict="rejected")}) == 1
    assert by_id(dataset)["a"].tags == ["synthetic", "rejected"]
    prepare_views("before", ["pit"])
    assert len(dataset.load_saved_view("rejected by hand")) == 1


def test_a_deleted_dataset_is_said_so():
    with pytest.raises(DatabaseError, match=r"no dataset 'gone' any more.*augment build"):
        mirror("gone", {})


def test_notes_stand_beside_what_the_build_noted(data, records):
    register_mix("noted", records, [], CLASSES, {"ratio": 0.0})
    note("noted", project="/there")
    about = dataset_info("noted")
    assert (about["role"], about["ratio"], about["project"]) == ("mix", 0.0, "/there")


@pytest.mark.slow
def test_deciding_about_five_hundred_samples_takes_less_than_two_seconds(data, records):
    samples = [synthetic(data, k) for k in range(600)]
    register_mix("many", records, samples, CLASSES, {})
    names = [f"syn-{k}" for k in range(500)]
    log = {name: standing(name, verdict="rejected", reason="x") for name in names}
    began = time.monotonic()
    assert mirror("many", log, names) == 500
    assert time.monotonic() - began < 2
    began = time.monotonic()
    log = {name: standing(name, class_name="pit") for name in names}
    assert mirror("many", log, names) == 500
    assert time.monotonic() - began < 2


def test_each_class_has_a_view_whatever_its_letters_and_old_ones_go(fo, data, records):
    register_mix("letters", records, [], CLASSES, {})
    dataset = fo.load_dataset("letters")
    dataset.save_view("class of my own", dataset.view())

    def of_classes(*classes: str) -> list[str]:
        prepare_views("letters", classes)
        dataset.reload()
        return sorted(v for v in dataset.list_saved_views() if v.startswith("class "))

    mine = "class of my own"
    assert of_classes("hole", "划痕", "裂纹") == [
        "class 2 划痕",
        "class 3 裂纹",
        "class hole",
        mine,
    ]
    assert of_classes("hole", "Hole", "hole-1") == [
        "class 2 Hole",
        "class hole",
        "class hole-1",
        mine,
    ]
    assert of_classes("pit") == [mine, "class pit"]


def test_numbered_titles_never_meet_a_name(fo):
    assert class_titles(["1 a", "划", "a", "3 b", "b", "B"]) == [
        *("class 1 a", "class 2 划", "class a", "class 3 b", "class b", "class 6 B")
    ]
    assert class_titles(["2 a", "A", "a"]) == ["class 2 a", "class A", "class 3 a"]
    assert class_titles(["a", "3 a", "A"]) == ["class a", "class 3 a", "class 3 A 3"]
