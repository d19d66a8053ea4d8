"""The dropout sites of a model by dotted names, so that rules of the plan can set the dropout rate of single sites."""

from collections.abc import Mapping
from dataclasses import replace

from jaxft.models.encoder.config import Dropouts, EncoderConfig
from jaxft.models.model import Model

EMBEDDINGS = "encoder.embeddings.dropout"
_OF_LAYER = {
    "attention": "attention.self",  # dropout of the probabilities
    "attention_output": "attention.output",
    "intermediate": "intermediate",
    "output": "output",  # also DeBERTa's relative embeddings and convolution
}


def dropout_sites(model: Model) -> list[str]:
    """Names such as encoder.embeddings.dropout, encoder.layer.3.attention.self.dropout, heads.main.dropout."""
    config = model.encoder.config
    heads = [
        f"heads.{name}.dropout"
        for name, head in model.heads.items()
        if any(part.input_dropout or part.dropout for part in head.parts.values())
    ]
    layers = [name for i in range(config.parameter_layers) for name in _of_layer(config, i).values()]
    return [EMBEDDINGS, *layers, *heads]


def with_dropout_rates(model: Model, site_rates: Mapping[str, float]) -> Model:
    """The model with other dropout rates at some sites."""
    if not site_rates:
        return model
    config, rates = model.encoder.config, model.rates
    values = {**rates.values, **({"embeddings": site_rates[EMBEDDINGS]} if EMBEDDINGS in site_rates else {})}
    layers = {
        i: {field: site_rates[name] for field, name in _of_layer(config, i).items() if name in site_rates}
        for i in range(config.parameter_layers)
    }
    head = next((rate for name, rate in site_rates.items() if name.startswith("heads.")), rates.head)
    # Each site gets a separate field, which takes precedence over those of config.json.
    dropouts = Dropouts(**{field: (field, *fields) for field, fields in vars(config.dropouts).items()})
    encoder = replace(model.encoder, config=replace(config, dropouts=dropouts))
    rates = replace(rates, values=values, head=head, layers={i: x for i, x in layers.items() if x})
    return replace(model, encoder=encoder, rates=rates)


def _of_layer(config: EncoderConfig, number: int) -> dict[str, str]:
    """Field of `Dropouts` -> name of the dropout site, for one layer."""
    return {
        field: f"encoder.layer.{number}.{where}.dropout"
        for field, where in _OF_LAYER.items()
        if field != "intermediate" or config.pre_norm
    }
