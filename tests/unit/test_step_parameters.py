"""The parameters of a run as one stored tree."""

from dataclasses import replace

import jax
import pytest

from jaxft.step.parameters import Parameters, from_stored

TABLE = jax.ShapeDtypeStruct((6, 2), "float32")
MODEL = {"encoder": {"embeddings": {"word_embeddings": {"embedding": TABLE}}}, "heads": {"main": {"bias": TABLE}}}
UNUSED = {"embedding": TABLE, "rank": jax.ShapeDtypeStruct((6,), "int32")}


@pytest.mark.parametrize("unused_words", [{}, UNUSED])
@pytest.mark.parametrize("reference", [{}, {"encoder": {"kernel": TABLE}}])
@pytest.mark.parametrize("model", [{}, MODEL])
def test_stored_parameters_get_their_roles_back(model, unused_words, reference):
    params = Parameters(model, unused_words, reference)
    assert from_stored(params.as_stored()) == params
    assert from_stored(replace(params, teachers={"teacher": MODEL}).as_stored()) == params  # read from their directories
