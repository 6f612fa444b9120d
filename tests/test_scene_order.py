"""The scene's own order statistics: NumPy's numbers, to the bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.scene.order import byte_percentiles, median, percentile

NUMBERS = hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6, allow_nan=False))


@given(NUMBERS, st.sampled_from([0, 1, 2, 25, 50, 90, 95, 98, 99, 100]))
def test_a_percentile_is_numpys(values, percent):
    """Of any numbers, however many; and the values themselves stay as they were."""
    before = values.copy()
    assert float(np.percentile(values, percent)) == percentile(values, percent)
    assert np.array_equal(before, values)


@given(NUMBERS)
def test_a_median_is_numpys(values):
    """Of an odd and of an even count."""
    assert float(np.median(values)) == median(values)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=12)))
def test_percentiles_of_bytes_are_numpys(values):
    """Of a picture's part with strides of its own too."""
    for part in (values, values[::2, ::2]):
        assert np.percentile(part, (1, 99)).tolist() == byte_percentiles(part, 1, 99)
