"""What the App shows of a mixed dataset: saved views, the order of review, sidebar, colours."""

from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from augmentor.fiftyone_io.connection import connect, database_errors
from augmentor.fiftyone_io.register import load, save_own_view
from augmentor.fiftyone_io.schema import (
    ACCEPTED,
    NEIGHBOURS,
    NEW,
    RANK,
    REJECTED,
    REVIEW,
    SCORES,
    SIDEBAR,
    VIEWS,
    noted,
)

TO_REVIEW, BY_FILTER, BY_HAND = "to review", "rejected by filter", "rejected by hand"
NEAREST, DUPLICATES, LEAKS = "nearest real neighbour", "near duplicates", "possible leaks"

REAL_COLOUR, SYNTHETIC_COLOUR = "#2f9e44", "#f76707"
"""Green and orange, of different lightness, so that they stay apart without colours too."""

_OLD_VIEWS = ("synthetic", REJECTED)
"""Views that a build saves; the review's own say more."""


def prepare_views(name: str, classes: Sequence[str]) -> None:
    """Save the review's views, order, sidebar and colours with a dataset; safe to repeat.

    How a person arranged the sidebar stays, only fields that it lacks are added; colours and shown
    fields are set where nobody has set any.

    Args:
        name: of the dataset.
        classes: defect classes in label order.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    with database_errors():
        dataset = load(fo, name)
        _rank(dataset)
        ours = noted(dataset).get(VIEWS, ())
        for title in _OLD_VIEWS:
            if title in ours and dataset.has_saved_view(title):
                dataset.delete_saved_view(title)
        views = _views(fo, dataset, classes)
        _delete_old_classes(dataset, {title for title, *_ in views})
        for title, view, description, colour in views:
            save_own_view(dataset, title, view, description=description, color=colour)
        _sidebar(fo, dataset)
        _colours(fo, dataset)
        dataset.save()


def rank(name: str) -> None:
    """Bring the order of review up to date, after samples were added.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    with database_errors():
        _rank(load(fo, name))


def _rank(dataset: Any) -> None:
    """Number the synthetic samples, the one with the worst score of all first.

    Scores have different units, so each counts by its rank among all samples; a sample is as bad
    as the worst of its ranks, and of two equal ones that with the worse mean goes first.
    """
    made = dataset.match_tags("synthetic")
    ids, held = made.values(["id", RANK])
    places = []
    for score in SCORES.values():
        if score.worse and ids and dataset.has_field(f"scores.{score.name}"):
            values = np.array(made.values(f"scores.{score.name}"), dtype=float) * score.worse
            if np.isfinite(values).any():
                places.append(_places(values))
    if not ids:
        return
    table = np.array(places) if places else np.zeros((1, len(ids)))
    worst, mean = table.max(axis=0), table.mean(axis=0)
    # our ids decide what is left equal, so that the order is the same everywhere
    order = np.lexsort((np.array(made.values("augment_id")), -mean, -worst))
    ranks = {ids[row]: number for number, row in enumerate(order.tolist(), 1)}
    changed = {i: ranks[i] for i, was in zip(ids, held, strict=True) if ranks[i] != was}
    if changed:
        dataset.set_values(RANK, changed, key_field="id", progress=False)


def _places(values: np.ndarray) -> np.ndarray:
    """(N,) shares of values that are lower, 0 to 1; 0 for what is no number."""
    known = np.isfinite(values)
    ordered = np.sort(values[known])
    found = np.searchsorted(ordered, np.where(known, values, -np.inf), side="left")
    return np.where(known, found / max(len(ordered) - 1, 1), 0.0)


def _views(fo: Any, dataset: Any, classes: Sequence[str]) -> list[tuple[str, Any, str, str | None]]:
    field = fo.ViewField
    made = dataset.match_tags("synthetic")
    ruled_out = field("synthetic.rules").length() > 0
    # whoever gives a sample another class wants it
    relabelled = field("review.made_as").exists() & ~(field("review.verdict") == "rejected")
    undecided = ~field("review.verdict").is_in(["accepted", "rejected"]) & ~relabelled
    views = [
        (
            TO_REVIEW,
            made.match(undecided & ~ruled_out).sort_by(RANK),
            "nobody decided about these, and no rule rejects them; the worst score first",
            None,
        ),
        (NEW, made.match_tags(NEW).sort_by("id", reverse=True), "made on request", "#1c7ed6"),
        (
            ACCEPTED,
            made.match(field("tags").contains(ACCEPTED) | relabelled),
            "accepted by hand, or given another class",
            REAL_COLOUR,
        ),
        (
            BY_FILTER,
            made.match(undecided & ruled_out).sort_by([("synthetic.rule", 1), (RANK, 1)]),
            "rejected by a rule, grouped by rule; accept what it was wrong about",
            "#f59f00",
        ),
        (BY_HAND, made.match_tags(REJECTED), "rejected by hand", "#e03131"),
    ]
    paired = {
        NEAREST: ("neighbour", "each training image, then the synthetic samples closest to it"),
        DUPLICATES: ("duplicate", "synthetic samples that look the same"),
        LEAKS: ("leak", "training images, then val or test images that look the same"),
    }
    for title, (path, description) in paired.items():
        order = [(f"{path}.pair", 1), (f"{path}.distance", 1)]
        views.append((title, dataset.exists(f"{path}.pair").sort_by(order), description, None))
    for name, title in zip(classes, class_titles(classes), strict=True):
        of_class = made.match(field("defect.label") == name).sort_by(RANK)
        views.append((title, of_class, f"synthetic {name}{_OF_CLASS}", None))
    return views


_OF_CLASS = ", the worst first"
"""How the description of a class's view ends; by it, and by its title, ours are known."""


def class_titles(classes: Sequence[str]) -> list[str]:
    """Titles of the classes' views.

    FiftyOne keeps one view for each address, in which only a to z and digits are left of a title.
    A class whose name comes to nothing there, or to what another's does, is numbered; a class
    that is added later takes no title from one before it.
    """
    from fiftyone.core.utils import to_slug

    titles: list[str] = []
    slugs = {to_slug("class")}
    for number, name in enumerate(classes, 1):
        title = f"class {name}"
        while to_slug(title) in slugs:
            title = f"class {number} {name}" if title == f"class {name}" else f"{title} {number}"
        slugs.add(to_slug(title))
        titles.append(title)
    return titles


def _delete_old_classes(dataset: Any, titles: Set[str]) -> None:
    """Delete views that were saved for classes, or under titles, that are gone."""
    for title in dataset.list_saved_views():
        if title.startswith("class ") and title not in titles:
            said = dataset.get_saved_view_info(title)["description"] or ""
            if said.startswith("synthetic ") and said.endswith(_OF_CLASS):
                dataset.delete_saved_view(title)


def _sidebar(fo: Any, dataset: Any) -> None:
    """Groups in the order in which a reviewer needs them; what nobody filters by is folded."""
    schema = dataset.get_field_schema(flat=True)

    def below(*parents: str) -> list[str]:
        return [p for p in schema if p.split(".")[0] in parents and "." in p]

    def above(*starts: str) -> list[str]:
        return [p for p in schema if p.startswith(starts) and "." not in p]

    groups = [
        ("tags", ["tags", "_label_tags"], True),
        ("labels", ["ground_truth", "segmentation", "defect"], True),
        ("predictions", [*above("pred_", "class_", "map_", "eval_"), *below("gain")], True),
        ("scores", below("scores"), True),
        ("review", [*(f"review.{part}" for part in REVIEW), RANK], True),
        ("why", [f"synthetic.{part}" for part in ("verdict", "rule", "reason", "rules")], False),
        ("neighbours", below(*NEIGHBOURS), False),
        ("made from", below("synthetic"), False),
        ("metadata", below("metadata"), False),
    ]
    usual = fo.DatasetAppConfig.default_sidebar_groups(dataset)
    groups.append(("other", [path for group in usual for path in group.paths], False))
    there = {path for _, paths, _ in groups for path in paths}
    documents = []
    for document in () if _as_left(dataset) else dataset.app_config.sidebar_groups:
        if kept := [path for path in document.paths if path in there]:  # fields may be gone
            document.paths = kept
            documents.append(document)
    taken = {path for document in documents for path in document.paths}
    by_title = {document.name: document for document in documents}
    for title, paths, expanded in groups:
        kept = [p for p in paths if p not in taken]
        if not kept:
            continue  # the App would show an empty group as `No fields`
        taken |= set(kept)
        if title in by_title:
            by_title[title].paths = [*by_title[title].paths, *kept]
            continue
        documents.append(fo.SidebarGroupDocument(name=title, paths=kept, expanded=expanded))
    dataset.app_config.sidebar_groups = documents
    left = [[document.name, bool(document.expanded), document.paths] for document in documents]
    dataset.info["augmentor"] = {**noted(dataset), SIDEBAR: left}


def _as_left(dataset: Any) -> bool:
    """Whether nobody has arranged the sidebar but us, or FiftyOne: it adds groups and fields, but
    moves none."""
    left = noted(dataset).get(SIDEBAR)
    if left is None or dataset.app_config.sidebar_groups is None:
        return True
    ours = {path for _, _, paths in left for path in paths}
    now = [
        [group.name, bool(group.expanded), [path for path in group.paths if path in ours]]
        for group in dataset.app_config.sidebar_groups
    ]
    present = {path for _, _, paths in now for path in paths}
    before = [[name, shown, [p for p in paths if p in present]] for name, shown, paths in left]
    return [group for group in now if group[2]] == [group for group in before if group[2]]


def _colours(fo: Any, dataset: Any) -> None:
    """Boxes, masks and tags in one colour for real and one for synthetic."""
    by_origin = [
        {"value": "real", "color": REAL_COLOUR},
        {"value": "synthetic", "color": SYNTHETIC_COLOUR},
    ]
    shown = dataset.app_config
    if shown.color_scheme is None:
        shown.color_scheme = fo.ColorScheme(
            color_by="value",
            fields=[
                {"path": "ground_truth", "colorByAttribute": "origin", "valueColors": by_origin},
                {"path": "tags", "valueColors": by_origin},
            ],
        )
    if shown.active_fields is None:
        shown.active_fields = fo.ActiveFields(paths=["ground_truth", "defect", "tags"])
