"""Would a classifier of real defects see the class that a sample claims?"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from generator.quality.features import Extractor
from generator.quality.windows import FOLDS, NEVER_HELD_OUT, Window
from generator.records import GOOD

INVERSE_PENALTY = 10.0
"""On features of length 1; accuracy on held-out images was the same from 1 to 100."""

TEMPERATURES = (0.05, 20.0)


class ClassAgreement:
    """Logistic regressions on an extractor's features, cross-fitted: the classes and `good`.

    For each fold of the train images there is a model that never saw them, neither its features
    nor its regression. A sample is judged by the models that did not see its source. The
    probabilities are calibrated by one temperature (Guo et al., 1706.04599), which is fitted on
    the held-out windows with balanced classes. Of a calibrated model, at most a share
    t * (number of classes) of real windows can have a probability below t for their own class.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        classes: Sequence[str],
        extractor: Extractor,
    ) -> None:
        """Fit the models."""
        present = {w.class_name for w in windows}
        self.names = [name for name in (*classes, GOOD) if name in present]
        self._models: dict[int, tuple[Extractor, LogisticRegression]] = {}
        held_logits, held_labels = [], []
        for fold in range(FOLDS):
            known = [w for w in windows if w.fold != fold]
            held = [w for w in windows if w.fold == fold]
            if len(self.names) < 2 or {w.class_name for w in known} != present:
                continue
            features = extractor.without(fold)
            model = LogisticRegression(C=INVERSE_PENALTY, max_iter=1000, class_weight="balanced")
            model.fit(
                features.embed([w.pixels for w in known]).astype(np.float64),
                [self.names.index(w.class_name) for w in known],
            )
            self._models[fold] = features, model
            if held:
                held_logits.append(_log_probabilities(features, model, [w.pixels for w in held]))
                held_labels += [self.names.index(w.class_name) for w in held]
        self._inverse = 1.0
        self.held_out_accuracy: float | None = None
        if held_labels:
            logits, labels = np.concatenate(held_logits), np.array(held_labels)
            self._inverse = 1 / _temperature(logits, labels)
            right = logits.argmax(axis=1) == labels
            self.held_out_accuracy = float(
                np.mean([right[labels == c].mean() for c in set(labels)])
            )

    def scores(
        self,
        images: Sequence[np.ndarray],
        class_names: Sequence[str],
        source_folds: Sequence[frozenset[int]],
    ) -> list[float | None]:
        """Probability of each window's own class.

        Args:
            images: windows, (h, w, 3) uint8.
            class_names: of each.
            source_folds: fold of the real defect that each was made from. Those models judge it
                which did not see one of these folds, on average; all models where there is none
                (procedural shapes, real images from elsewhere).

        Returns:
            None where no model knows the class beside another.
        """
        logs = self.log_probabilities(images, source_folds)
        return [
            float(np.exp(row[self.names.index(name)])) if name in self.names and len(row) else None
            for row, name in zip(logs, class_names, strict=True)
        ]

    def log_probabilities(
        self, images: Sequence[np.ndarray], source_folds: Sequence[frozenset[int]]
    ) -> np.ndarray:
        """(N, classes) calibrated, in the order of `names`; (N, 0) without any model."""
        if not self._models:
            return np.zeros((len(images), 0))
        judges = [self._judges(folds) for folds in source_folds]
        total = np.zeros((len(images), len(self.names)))
        for fold, (features, model) in self._models.items():
            chosen = [k for k, wanted in enumerate(judges) if fold in wanted]
            if chosen:
                logits = _log_probabilities(features, model, [images[k] for k in chosen])
                shares = np.exp(log_softmax(logits * self._inverse, axis=1))
                weights = np.array([1 / len(judges[k]) for k in chosen])
                total[chosen] += shares * weights[:, None]
        return np.asarray(np.log(np.maximum(total, 1e-12)))

    def _judges(self, source_folds: frozenset[int]) -> frozenset[int]:
        blind = source_folds & frozenset(self._models) - {NEVER_HELD_OUT}
        return blind or frozenset(self._models)


def _log_probabilities(
    features: Extractor, model: LogisticRegression, images: Sequence[np.ndarray]
) -> np.ndarray:
    return np.asarray(model.predict_log_proba(features.embed(images).astype(np.float64)))


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of least negative log-likelihood, every class weighing the same."""
    share = 1 / np.bincount(labels)[labels]

    def loss(log_temperature: float) -> float:
        logs = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float((share * logs[np.arange(len(labels)), labels]).sum())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))
