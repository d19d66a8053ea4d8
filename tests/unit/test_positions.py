"""Relative positions against the functions of Hugging Face's models, at lengths where logarithms round."""
# ruff: noqa: E402

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from jaxft.models.positions import distance_buckets, relative_index


def test_mpnet_buckets():
    length = 700
    place = torch.arange(length)
    theirs = MPNetEncoder.relative_position_bucket(place[None, :] - place[:, None], num_buckets=32)
    np.testing.assert_array_equal(distance_buckets(length), theirs.numpy())


@pytest.mark.parametrize(("buckets", "longest"), [(256, 512), (32, 128), (6, 20), (-1, 16), (-1, 512), (48, 77)])
def test_deberta_index(buckets, longest):
    length = 600
    x = torch.zeros(1, length, 1)
    relative = build_relative_position(x, x, bucket_size=buckets, max_position=longest)[0]
    span = buckets if buckets > 0 else longest
    theirs = torch.clamp(relative + span, 0, 2 * span - 1)
    np.testing.assert_array_equal(relative_index(length, buckets, longest), theirs.numpy())
