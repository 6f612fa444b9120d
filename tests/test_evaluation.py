"""The scores are those of the literature."""

import numpy as np
import pytest

from edge.evaluation import score, vertical_ramp


def test_a_perfect_map_scores_one_whatever_its_scale_and_shift():
    """delta1 is 1 and AbsRel 0 for 7 * truth - 3."""
    truth = vertical_ramp((20, 10)) + 0.2
    result = score(7 * truth - 3, truth)
    assert (result.delta1, result.failed) == (1.0, False)
    assert result.abs_rel == pytest.approx(0, abs=1e-5)


def test_unknown_pixels_do_not_count():
    """Pixels whose truth is 0 change nothing."""
    truth = vertical_ramp((20, 10)) + 0.2
    depth = truth.copy()
    depth[:5] = 99
    truth[:5] = 0
    assert score(depth, truth).delta1 == 1.0


@pytest.mark.parametrize(("factor", "expected"), [(1.2, 1.0), (4.0, 0.0)])
def test_delta1_is_the_share_within_a_quarter(factor, expected):
    """Where the map says next to nothing the fit is the mean: halves 1.2 times apart count, 4 times apart don't."""
    truth = np.repeat([1.0, factor], 50).reshape(10, 10)
    stripes = np.tile([0.0, 1.0], 50).reshape(10, 10) + 1e-3 * truth
    assert expected == score(stripes, truth).delta1


def test_near_and_far_exchanged_is_a_failure():
    """A map that is upside down fails and has a delta1 of 0."""
    truth = vertical_ramp((20, 10)) + 0.2
    result = score(-truth, truth)
    assert (result.failed, result.delta1) == (True, 0.0)


def test_what_can_not_be_scored_is_told():
    """No known pixel and another shape are errors."""
    with pytest.raises(ValueError, match="no pixel"):
        score(np.ones((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="shapes differ"):
        score(np.ones((2, 2)), np.ones((2, 3)))
