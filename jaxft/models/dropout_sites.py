"""The dropout sites of a model by dotted names, so that rules of the plan can set the dropout rate of single sites."""

from collections.abc import Mapping
from dataclasses import replace

from jaxft.models.encoder.config import DropoutSite, EncoderConfig
from jaxft.models.model import Model

EMBEDDINGS = "encoder.embeddings.dropout"
_OF_LAYER = {
    DropoutSite.ATTENTION: "attention.self",
    DropoutSite.ATTENTION_OUTPUT: "attention.output",
    DropoutSite.INTERMEDIATE: "intermediate",
    DropoutSite.OUTPUT: "output",
}


def dropout_sites(model: Model) -> list[str]:
    """Names such as encoder.embeddings.dropout, encoder.layer.3.attention.self.dropout, heads.main.dropout."""
    config = model.encoder.config
    heads = [
        _of_head(name)
        for name, head in model.heads.items()
        if any(part.input_dropout or part.dropout for part in head.parts.values())
    ]
    layers = [name for i in range(config.parameter_layers) for name in _of_layer(config, i).values()]
    return [EMBEDDINGS, *layers, *heads]


def with_dropout_rates(model: Model, own: Mapping[str, float]) -> Model:
    """The model with other rates at some of its sites, by name."""
    layers = {
        i: {site: own[name] for site, name in _of_layer(model.encoder.config, i).items() if name in own}
        for i in range(model.encoder.config.parameter_layers)
    }
    rates = replace(
        model.rates,
        sites={DropoutSite.EMBEDDINGS: own[EMBEDDINGS]} if EMBEDDINGS in own else {},
        layers={i: x for i, x in layers.items() if x},
        heads={name: own[_of_head(name)] for name in model.heads if _of_head(name) in own},
    )
    return replace(model, rates=rates)


def _of_head(name: str) -> str:
    return f"heads.{name}.dropout"


def _of_layer(config: EncoderConfig, number: int) -> dict[DropoutSite, str]:
    """The sites of one layer and their names."""
    return {
        site: f"encoder.layer.{number}.{where}.dropout"
        for site, where in _OF_LAYER.items()
        if site != DropoutSite.INTERMEDIATE or config.pre_norm
    }
