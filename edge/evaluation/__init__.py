"""How good is good: the scores of pictures and sequences with true depth, and such sequences."""

from edge.evaluation.scores import (
    Compared,
    DistanceScore,
    Score,
    TriggerScore,
    TrueRegion,
    jitter,
    score,
    score_distances,
    score_trigger,
    true_nearest,
    vertical_ramp,
)
from edge.evaluation.sequences import MADE, Sequence, made, read_sequence

__all__ = [
    "MADE",
    "Compared",
    "DistanceScore",
    "Score",
    "Sequence",
    "TriggerScore",
    "TrueRegion",
    "jitter",
    "made",
    "read_sequence",
    "score",
    "score_distances",
    "score_trigger",
    "true_nearest",
    "vertical_ramp",
]
