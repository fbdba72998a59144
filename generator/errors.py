"""The generator's errors.

    GeneratorError
    ├── RecipeError          a recipe that can't be read, or a combination that can't work
    ├── WeightsError         weights that a recipe names are missing, or are a pickle
    ├── CheckpointError      a checkpoint that is missing, foreign or damaged
    ├── ExampleError         an example that can't be read, or breaks its own contract
    ├── PlacementError       no place on any background fits the proposed mask
    ├── TrainingError        the loss stopped being a number, or there is nothing to train on
    ├── SamplingError        memory ran out although one sample is painted at a time
    └── PoolError            a pool that is missing, foreign or damaged

Every message is one sentence that says what is wrong and, where there is one, the next command
to type.
"""


class GeneratorError(Exception):
    """Base of everything that `generator` raises on purpose."""


class RecipeError(GeneratorError):
    """A recipe can't be read, or its four choices don't go together."""


class WeightsError(GeneratorError):
    """Weights that a recipe names are not on disk, or are in a refused format."""


class CheckpointError(GeneratorError):
    """A checkpoint is missing, was made by something else, or is damaged."""


class ExampleError(GeneratorError):
    """An image, mask or record can't be read or contradicts itself."""


class PlacementError(GeneratorError):
    """A proposed mask has no admissible place on the background."""


class TrainingError(GeneratorError):
    """Training can't start or can't go on."""


class SamplingError(GeneratorError):
    """Sampling can't go on."""


class PoolError(GeneratorError):
    """A pool of synthetic samples is missing, foreign or damaged."""
