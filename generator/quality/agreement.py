"""Does a sample's label say what is there? Rules on the scores of `generator.compositing`."""

from collections.abc import Mapping

from pydantic import Field

from generator.config import StrictModel
from generator.records import Verdict


class MaskRules(StrictModel):
    """Bounds on a composite's scores; the defaults let nearly every real copy-pasted defect of
    the magnetic-tile data pass."""

    enabled: bool = Field(True, description="judge by these rules")
    least_area_px: float = Field(4, ge=1, description="least size of the derived mask, pixels")
    least_contrast: float = Field(
        1.2, ge=0, description="least mean change in the mask, in units of the surface's noise"
    )
    least_fill: float = Field(
        0.35, ge=0, le=1, description="least share of the proposed mask that changed"
    )
    most_leak: float = Field(
        0.5, ge=0, le=1, description="largest share of the change that lies outside the mask"
    )


def judge(scores: Mapping[str, float], rules: MaskRules) -> list[Verdict]:
    """Every rule that rejects a composite, in the order in which they stand below.

    Args:
        scores: of `generator.compositing.composite`; empty in whole-image mode, which has no mask
            that could disagree.
        rules: whether they judge, and their bounds.

    Returns:
        Verdicts of `nothing-appeared`, `outside-mask` and `too-little-in-mask`; empty for a
        sample that no rule rejects. With the rules switched off, only a sample without a single
        changed pixel is rejected: there is nothing in it that could be labelled.
    """
    if not scores:
        return []
    area, contrast = scores["area_px"], scores["contrast"]
    if not rules.enabled:
        return [_too_small(area, 1)] if area < 1 else []
    found = []
    if area < rules.least_area_px:
        found.append(_too_small(area, rules.least_area_px))
    elif contrast < rules.least_contrast:
        sentence = (
            f"the change is {contrast:.2f} times the surface's noise, at least "
            f"{rules.least_contrast:.2f} is needed."
        )
        found.append(_verdict("nothing-appeared", contrast, rules.least_contrast, sentence))
    if scores["leak"] > rules.most_leak:
        sentence = (
            f"{scores['leak']:.0%} of the change lies outside the mask, at most "
            f"{rules.most_leak:.0%} may."
        )
        found.append(_verdict("outside-mask", scores["leak"], rules.most_leak, sentence))
    if scores["fill"] < rules.least_fill:
        sentence = (
            f"{scores['fill']:.0%} of the mask changed, at least {rules.least_fill:.0%} must."
        )
        found.append(_verdict("too-little-in-mask", scores["fill"], rules.least_fill, sentence))
    return found


def _too_small(area: float, least: float) -> Verdict:
    sentence = f"only {area:.0f} px changed visibly, at least {least:.0f} px must."
    return _verdict("nothing-appeared", area, least, sentence)


def _verdict(rule: str, value: float, threshold: float, sentence: str) -> Verdict:
    return Verdict(rule=rule, value=value, threshold=threshold, sentence=sentence)
