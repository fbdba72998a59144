"""Does a sample's label say what is there? Rules on the scores of `generator.compositing`."""

from collections.abc import Mapping

from pydantic import Field

from generator.config import StrictModel


class MaskRules(StrictModel):
    """Bounds on a composite's scores; the defaults let nearly every real copy-pasted defect of
    the magnetic-tile data pass."""

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


def judge(scores: Mapping[str, float], rules: MaskRules) -> tuple[str, str]:
    """Accept or reject a composite by its scores.

    Args:
        scores: of `generator.compositing.composite`; empty in whole-image mode, which has no mask
            that could disagree.

    Returns:
        ("", "") when accepted, else the rule's name (`nothing-appeared`, `too-little-in-mask`,
        `outside-mask`) and one sentence with the value and its bound.
    """
    if not scores:
        return "", ""
    area, contrast = scores["area_px"], scores["contrast"]
    if area < rules.least_area_px:
        return "nothing-appeared", (
            f"only {area:.0f} px changed visibly, at least {rules.least_area_px:.0f} px must."
        )
    if contrast < rules.least_contrast:
        return "nothing-appeared", (
            f"the change is {contrast:.2f} times the surface's noise, at least "
            f"{rules.least_contrast:.2f} is needed."
        )
    if scores["leak"] > rules.most_leak:
        return "outside-mask", (
            f"{scores['leak']:.0%} of the change lies outside the mask, at most "
            f"{rules.most_leak:.0%} may."
        )
    if scores["fill"] < rules.least_fill:
        return "too-little-in-mask", (
            f"{scores['fill']:.0%} of the mask changed, at least {rules.least_fill:.0%} must."
        )
    return "", ""
