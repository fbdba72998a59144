"""Operators: what a person does with the selected samples, each one call of a workflow."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from augmentor.decisions import Action
from augmentor.errors import AugmentorError
from augmentor.workflows import deciding, more
from augmentor.workflows.built import as_built
from generator.errors import GeneratorError

REASONS = (
    "nothing appeared",
    "off the part",
    "mask not filled",
    "looks unreal",
    "seam is visible",
    "wrong class",
    "copy of a real image",
)
"""Offered in the form; any other text is taken too."""


class _OnSamples(foo.Operator):
    """An operator on the selected samples, or on the one whose window is open."""

    name_: str
    label: str
    description: str
    icon: str
    is_form = False

    @property
    def config(self) -> foo.OperatorConfig:
        """What the App shows of the operator."""
        return foo.OperatorConfig(
            name=self.name_,
            label=self.label,
            description=self.description,
            icon=self.icon,
            # the operators work on what is selected, and offer no other view of the dataset
            view_target=False,
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """A button above the grid."""
        button = types.Button(label=self.label, icon=self.icon, prompt=self.is_form)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Run the operator; what goes wrong is said in one sentence."""
        with _said(ctx):
            samples = _samples(ctx)
            if samples:
                return self.work(ctx, samples)
            ctx.ops.notify("Select samples first.", variant="warning")
        return {}

    def work(self, ctx: Any, samples: list[str]) -> dict[str, Any]:
        """Do it with these samples, by FiftyOne's ids."""
        raise NotImplementedError


class _Decide(_OnSamples):
    """An operator that decides about samples."""

    action: Action
    done: str

    def work(self, ctx: Any, samples: list[str]) -> dict[str, Any]:
        """Decide, and say about how many."""
        decided = deciding.decide(
            ctx.dataset_name,
            samples,
            self.action,
            reason=ctx.params.get("reason") or "",
            class_name=ctx.params.get("class_name") or "",
        )
        return _tell(ctx, decided, self.done)


class Accept(_Decide):
    """Accept the selected samples."""

    name_, label, icon = "accept", "Accept (Shift+A)", "check"
    description = "The build uses these samples, whatever a rule says"
    action, done = "accept", "accepted"


class Reject(_Decide):
    """Reject the selected samples with a reason."""

    name_, label, icon = "reject", "Reject (Shift+X)", "close"
    description = "The build never uses these samples"
    action, done = "reject", "rejected"
    is_form = True

    def resolve_input(self, ctx: Any) -> types.Property:
        """Ask for the reason."""
        form = _form(ctx)
        choices = types.AutocompleteView(allow_user_input=True, allow_clearing=True)
        for reason in REASONS:
            choices.add_choice(reason, label=reason)
        form.str("reason", label="Why?", required=False, view=choices)
        return types.Property(form, view=types.View(label=f"Reject {_counted(ctx)}"))


class Relabel(_Decide):
    """Give the selected samples another class."""

    name_, label, icon = "relabel", "Relabel (Shift+L)", "label"
    description = "The build uses these samples under another class"
    action, done = "relabel", "relabelled"
    is_form = True

    def resolve_input(self, ctx: Any) -> types.Property:
        """Ask for the class."""
        form = _form(ctx)
        classes = deciding.project_of(ctx.dataset_name).config.classes
        form.enum("class_name", classes, label="Class", required=True)
        return types.Property(form, view=types.View(label=f"Relabel {_counted(ctx)}"))


class Undo(_OnSamples):
    """Take back the last decision about the selected samples, or the last one at all."""

    name_, label, icon = "undo", "Undo (Shift+U)", "undo"
    description = "Take back the last decision: about what is selected, else your last one"

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Take back, and say about how many samples."""
        with _said(ctx):
            samples = _samples(ctx)
            name = ctx.dataset_name
            undone = deciding.decide(name, samples, "undo") if samples else deciding.undo_last(name)
            return _tell(ctx, undone, "undone")
        return {}


class MoreLikeThis(_OnSamples):
    """Ask for more samples like the selected ones."""

    name_, label, icon = "more_like_this", "More like this (Shift+M)", "library_add"
    description = "Make samples of the same class, mask family and place, in the background"
    is_form = True

    def resolve_input(self, ctx: Any) -> types.Property:
        """Ask how many."""
        form = _form(ctx)
        form.int(
            "number", label="How many of each?", default=4, min=1, max=more.MOST, required=True
        )
        return types.Property(form, view=types.View(label=f"More like {_counted(ctx)}"))

    def work(self, ctx: Any, samples: list[str]) -> dict[str, Any]:
        """Queue the requests."""
        number = int(ctx.params.get("number") or 4)
        return _queued(ctx, more.ask_samples(ctx.dataset_name, samples, "more", number))


class TryAgain(_OnSamples):
    """Ask for the selected samples once more with another seed."""

    name_, label, icon = "try_again", "Try again (Shift+T)", "refresh"
    description = "Make the same requests with new seeds, in the background"

    def work(self, ctx: Any, samples: list[str]) -> dict[str, Any]:
        """Queue the requests."""
        return _queued(ctx, more.ask_samples(ctx.dataset_name, samples, "again", 1))


class RebuildMix(foo.Operator):
    """Build the mixed dataset anew with what was decided."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What the App shows of the operator."""
        return foo.OperatorConfig(
            name="rebuild_mix",
            label="Rebuild mix",
            description="Leave out what was rejected and top the ratio up, in the background",
            icon="restart_alt",
            view_target=False,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Ask for the ratio."""
        form = types.Object()
        form.float(
            "ratio",
            label="Share of synthetic among the defect images",
            default=as_built(deciding.project_of(ctx.dataset_name)).config.mix.ratio,
            min=0,
            max=1,
            required=True,
        )
        return types.Property(form, view=types.View(label="Rebuild mix"))

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Queue the build."""
        with _said(ctx):
            return _queued(ctx, more.ask_rebuild(ctx.dataset_name, float(ctx.params["ratio"])))
        return {}


class ShowSources(_OnSamples):
    """Show what the selected samples were made from."""

    name_, label, icon = "show_sources", "Show sources (Shift+B)", "account_tree"
    description = "Each sample beside its background, its mask's source and its nearest real image"

    def work(self, ctx: Any, samples: list[str]) -> dict[str, Any]:
        """Show them, in that order."""
        shown, absent = deciding.with_sources(ctx.dataset_name, samples)
        ctx.ops.clear_selected_samples()
        ctx.ops.set_view(view=ctx.dataset.select(shown, ordered=True))
        if absent:
            ctx.ops.notify(
                f"{absent} of their source images are not in this dataset.", variant="info"
            )
        return {"shown": len(shown), "absent": absent}


OPERATORS = (Accept, Reject, Undo, Relabel, MoreLikeThis, TryAgain, RebuildMix, ShowSources)


@contextmanager
def _said(ctx: Any) -> Iterator[None]:
    """Show our own errors as the sentence that they are; a fault of ours stays an error."""
    try:
        yield
    except (AugmentorError, GeneratorError) as error:
        ctx.ops.notify(str(error), variant="error")


def _form(ctx: Any) -> types.Object:
    """A form that remembers which samples it was opened for, whatever is selected when it is
    sent."""
    form = types.Object()
    form.list("samples", types.String(), default=_samples(ctx), view=types.HiddenView())
    return form


def _samples(ctx: Any) -> list[str]:
    """FiftyOne's ids: those a form was opened for, else of what is selected, else of the sample
    whose window is open."""
    if ctx.params.get("samples"):
        return list(ctx.params["samples"])
    if ctx.selected:
        return list(ctx.selected)
    return [ctx.current_sample] if ctx.current_sample else []


def _counted(ctx: Any) -> str:
    number = len(_samples(ctx))
    return f"{number} sample{'' if number == 1 else 's'}"


def _tell(ctx: Any, decided: deciding.Decided, done: str) -> dict[str, Any]:
    said = f"{decided.samples} {done}."
    if decided.passed_over:
        said += f" {decided.passed_over} real images passed over: only synthetic ones are judged."
    ctx.ops.clear_selected_samples()
    ctx.ops.reload_dataset()
    ctx.ops.notify(said, variant="success" if decided.samples else "warning")
    return {"samples": decided.samples, "passed_over": decided.passed_over}


def _queued(ctx: Any, number: int) -> dict[str, Any]:
    said = f"{number} queued; the panel `Review` shows how far they are."
    ctx.ops.clear_selected_samples()
    ctx.ops.notify(said if number else "Select synthetic samples.", variant="info")
    return {"queued": number}
