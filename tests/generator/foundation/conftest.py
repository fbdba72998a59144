"""What the tests of the foundation recipes share."""

import pytest

from generator.quality import own_features


@pytest.fixture(autouse=True)
def extractors_learn_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings here measure themselves on val as they do for a user; no test looks at how well,
    and an extractor that is learnt to its end takes most of a minute."""
    monkeypatch.setattr(own_features, "STEPS", 4)
