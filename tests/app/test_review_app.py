"""The review as a person sees it: real App, real mongod, headless Chromium."""

import io
import re
from contextlib import suppress

import numpy as np
from app.conftest import Browsed, Reviewed, decisions, until
from PIL import Image, ImageColor
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from augmentor.fiftyone_io import connect
from augmentor.fiftyone_io.views import SYNTHETIC_COLOUR

KNOWN_OUTWARD = re.compile(r"https://fonts\.(googleapis|gstatic)\.com/")
"""What the App itself would load from elsewhere: two fonts, which it does without."""


def of_dataset(reviewed: Reviewed):
    dataset = connect().load_dataset(reviewed.name)
    dataset.reload()
    return dataset


def select(page, number: int) -> None:
    """Tick the box of a tile of the grid, until it is ticked: a grid that is just being loaded
    anew forgets it again."""
    tile = page.locator("[data-cy=looker]").nth(number)
    count = page.locator("[data-cy=selection-count-container]")

    def ticked() -> bool:
        if not count.count():
            tile.hover()
            page.locator("label[data-cy^=looker-checkbox]").nth(number).click()
            page.wait_for_timeout(1500)
        return bool(count.count())

    until(ticked, 40)


def send(form) -> None:
    """Press the form's button until the form is gone: before the App has asked its server how the
    operator may be run, the button does nothing."""
    button = form.get_by_role("button", name="Execute")

    def gone() -> bool:
        with suppress(PlaywrightTimeout):  # it went away while it was looked for
            if button.count():
                button.click(timeout=3000)
        form.page.wait_for_timeout(500)
        return not form.count()

    until(gone, 60)


def grid(page) -> np.ndarray:
    """(H, W, 3) int, the grid as it is drawn."""
    page.wait_for_selector("[data-cy=looker] canvas[canvas-loaded=true]")
    shot = page.locator("[data-cy=fo-grid]").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def test_the_grid_shows_images_with_their_masks_and_nothing_leaves_the_machine(reviewed, browse):
    browsed: Browsed = browse(f"{reviewed.url}?view=to-review")
    orange = np.array(ImageColor.getrgb(SYNTHETIC_COLOUR))
    # boxes and masks of twenty samples; the App's own buttons of that hue lie outside the grid
    until(lambda: (np.abs(grid(browsed.page) - orange).sum(axis=2) < 100).sum() > 500, 60)
    assert grid(browsed.page).std() > 20  # photographs, not empty tiles
    assert browsed.errors == []
    assert all(KNOWN_OUTWARD.match(url) for url in browsed.outward), browsed.outward


def test_reject_changes_log_and_database_and_survives_a_reload(reviewed, browse):
    browsed: Browsed = browse(f"{reviewed.url}?view=to-review")
    page, dataset = browsed.page, of_dataset(reviewed)
    before = len(decisions(reviewed.folder))
    view = dataset.load_saved_view("to review")
    (expected,) = view.limit(1).values("augment_id")
    select(page, 0)
    page.keyboard.press("Shift+X")
    form = page.locator("[data-cy=operators-prompt-modal]")
    form.get_by_text("Reject 1 sample").wait_for()
    form.get_by_role("combobox").fill("off the")
    page.get_by_role("option", name="off the part").click()
    send(form)
    (decision,) = until(lambda: decisions(reviewed.folder)[before:])
    assert (decision["sample_id"], decision["action"]) == (expected, "reject")
    assert (decision["reason"], decision["who"]) == ("off the part", "the tester")
    until(lambda: expected in of_dataset(reviewed).match_tags("rejected").values("augment_id"))
    (sample,) = of_dataset(reviewed).match({"augment_id": expected})
    assert (sample.review.verdict, sample.review.reason) == ("rejected", "off the part")

    page.goto(f"{reviewed.url}?view=rejected-by-hand")
    page.wait_for_selector("[data-cy=looker]")
    assert page.locator("[data-cy=looker]").count() == 1

    select(page, 0)
    page.keyboard.press("Shift+U")
    until(lambda: decisions(reviewed.folder)[-1]["action"] == "undo")
    until(lambda: not of_dataset(reviewed).match_tags("rejected").values("augment_id"))


KEYS = """
() => {
  const foo = window.__foo__, ran = [];
  window.__foo__ = { executeOperator: (uri, how) => ran.push((how || {}).operator_uri || uri) };
  for (const [key, code] of [["A", "KeyQ"], ["Q", "KeyA"], ["?", "KeyM"], ["Ф", "KeyA"]]) {
    const how = { key, code, shiftKey: true, bubbles: true };
    document.body.dispatchEvent(new KeyboardEvent("keydown", how));
    ran.push(key);
  }
  window.__foo__ = foo;
  return ran;
}
"""


def test_keys_are_the_letters_that_the_keyboard_writes(reviewed, browse):
    page = browse(f"{reviewed.url}?view=to-review").page
    page.wait_for_function("window.__augmentorShortcuts && window.__foo__")
    # on a French keyboard A lies where Q does elsewhere; a Russian one has its own at our A
    accept = "@augmentor/review/accept"
    assert page.evaluate(KEYS) == [accept, "A", "Q", "?", accept, "Ф"]


def test_try_again_brings_a_new_sample_and_more_like_this_keeps_class_and_place(reviewed, browse):
    browsed: Browsed = browse(f"{reviewed.url}?view=class-scratch")
    page, dataset = browsed.page, of_dataset(reviewed)
    (origin,) = dataset.load_saved_view("class scratch").limit(1)
    held = set(dataset.values("augment_id"))
    shown = f"{len(dataset.load_saved_view('class scratch')) + 1} samples"
    select(page, 0)
    page.keyboard.press("Shift+T")
    again = until(lambda: set(of_dataset(reviewed).values("augment_id")) - held, 60)
    page.get_by_text(shown).wait_for()  # it appears by itself
    page.wait_for_selector("[data-cy=looker] canvas[canvas-loaded=true]")
    select(page, 0)
    page.keyboard.press("Shift+M")
    form = page.locator("[data-cy=operators-prompt-modal]")
    form.get_by_text("More like 1 sample").wait_for()
    until(lambda: form.get_by_role("spinbutton").input_value() == "4")  # the form is ready
    send(form)

    def made():
        found = set(of_dataset(reviewed).values("augment_id")) - held - again
        return found if len(found) == 4 else None  # what the form offers

    more = until(made, 60)
    samples = {s.augment_id: s for s in of_dataset(reviewed)}
    (tried,) = again
    assert samples[tried].synthetic.origin == origin.augment_id
    assert samples[tried].defect.label == "scratch"
    assert {"new", "not-in-mix"} <= set(samples[tried].tags)
    (liked,) = {samples[name].synthetic.origin for name in more}
    for name in more:
        assert samples[name].defect.label == "scratch"
        assert "new" in samples[name].tags
        source = samples[liked].synthetic.mask_source_id
        assert samples[name].synthetic.mask_source_id == source


def test_the_panel_counts_what_stands_where(reviewed, browse):
    page = browse(reviewed.url).page
    page.locator("[data-cy=new-panel-btn]").first.click()
    page.locator("[data-cy^=new-panel-option-]").filter(has_text="Review").first.click()
    rows = page.locator("table tr")
    until(lambda: rows.count() == 6, 30)
    shown = {row.split("\t")[0]: row.split("\t")[1:] for row in rows.all_inner_texts()}
    expected = of_dataset(reviewed).match_tags("synthetic").match_tags("not-in-mix", bool=False)
    counts = expected.count_values("defect.label")
    assert {name: int(shown[name][0]) for name in counts} == counts


def test_the_views_of_the_review_are_saved_and_hold_what_they_say(reviewed):
    dataset = of_dataset(reviewed)
    made = dataset.match_tags("synthetic")
    assert {
        *("to review", "accepted", "rejected by filter", "rejected by hand", "new"),
        *("nearest real neighbour", "near duplicates", "possible leaks"),
        *(f"class {name}" for name in dataset.default_classes),
    } == set(dataset.list_saved_views())
    to_review = dataset.load_saved_view("to review")
    assert to_review.values("review_rank") == sorted(to_review.values("review_rank"))
    ruled_out = dataset.load_saved_view("rejected by filter")
    assert len(to_review) + len(ruled_out) == len(made)  # nobody has decided about any
    assert all(ruled_out.values("synthetic.rules"))
