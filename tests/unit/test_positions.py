"""Positions against the functions of Hugging Face's models, also at distances where logarithms are rounded."""
# ruff: noqa: E402

from functools import partial

import jax
import jax.export
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

from jaxft.models.encoder.positions import distance_buckets, relative_index, skip_padding


def test_padding_ids_inside_a_text_take_no_position():
    """For each text alone, and for several in one row."""
    pad, texts = 1, [[0, 5, 1, 6, 2], [1, 1, 7], [0, 8, 9, 2], [1]]
    theirs = [
        RobertaEmbeddings.create_position_ids_from_input_ids(torch.tensor([ids]), pad)[0].numpy() - pad - 1 for ids in texts
    ]
    place = np.concatenate([np.arange(len(ids)) for ids in texts])[None].astype(np.int32)
    ours = skip_padding(place, np.concatenate(texts)[None].astype(np.int32), pad)
    np.testing.assert_array_equal(ours[0], np.concatenate(theirs))


def test_mpnet_buckets_are_transformers():
    length = 700
    place = torch.arange(length)
    theirs = MPNetEncoder.relative_position_bucket(place[None, :] - place[:, None], num_buckets=32)
    np.testing.assert_array_equal(distance_buckets(length), theirs.numpy())


@pytest.mark.parametrize(("buckets", "longest"), [(256, 512), (32, 128), (6, 20), (-1, 16), (-1, 512), (48, 77)])
def test_deberta_indices_are_transformers(buckets, longest):
    length = 600
    x = torch.zeros(1, length, 1)
    relative = build_relative_position(x, x, bucket_size=buckets, max_position=longest)[0]
    span = buckets if buckets > 0 else longest
    theirs = torch.clamp(relative + span, 0, 2 * span - 1)
    np.testing.assert_array_equal(relative_index(length, buckets, longest), theirs.numpy())


@pytest.mark.parametrize(
    "function",
    [distance_buckets, partial(relative_index, buckets=32, longest=128), partial(relative_index, buckets=-1, longest=16)],
)
def test_an_exported_program_has_the_same_positions_for_any_length(function):
    symbolic = jax.ShapeDtypeStruct(jax.export.symbolic_shape("t"), np.int32)
    program = jax.export.export(jax.jit(lambda x: function(x.shape[0])))(symbolic)
    for length in (1, 700):
        np.testing.assert_array_equal(program.call(np.zeros(length, np.int32)), function(length))
