"""How good is good: the scores of pictures and sequences with true depth, and such sequences."""

from edge.evaluation.pictures import Example, Judged, Medians, judge, mean, medians, read_manifest
from edge.evaluation.scores import (
    Agreement,
    Compared,
    DistanceScore,
    Score,
    TriggerScore,
    TrueRegion,
    agreement,
    fit,
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
    "Agreement",
    "Compared",
    "DistanceScore",
    "Example",
    "Judged",
    "Medians",
    "Score",
    "Sequence",
    "TriggerScore",
    "TrueRegion",
    "agreement",
    "fit",
    "jitter",
    "judge",
    "made",
    "mean",
    "medians",
    "read_manifest",
    "read_sequence",
    "score",
    "score_distances",
    "score_trigger",
    "true_nearest",
    "vertical_ramp",
]
