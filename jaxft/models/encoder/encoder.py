"""The encoder as pure functions over a tree of parameters: embeddings, stacked layers run by scans, and pooler."""

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core.random_streams import OfLayer, OfMicroBatch
from jaxft.core.tree import Params, span, stacks
from jaxft.models.encoder.attention import LayerOptions
from jaxft.models.encoder.blocks import Embeddings, Pooler, PostNormLayer, PreNormLayer
from jaxft.models.encoder.config import PLAIN, DropoutRates, DropoutSite, EncoderConfig, Policy
from jaxft.models.encoder.dropout import fold
from jaxft.models.encoder.layer_outputs import HIDDEN, LayerOutputs
from jaxft.models.encoder.layers import Embed, LayerNorm, initial, run
from jaxft.models.encoder.matmul import gathered
from jaxft.models.encoder.positions import distance_buckets, relative_index, rotary_tables

Array = jax.Array


@dataclass(frozen=True)
class Encoder:
    """An encoder as two pure functions, `init` and `apply`, over {"embeddings", "layer": {"0:L": stack}, "pooler"?, ...}.

    Attributes:
      pooler: whether it has a pooler (only if a head uses it).
    """

    config: EncoderConfig
    pooler: bool = True

    def init(self, key: Array) -> Params:
        """Random parameters, with the distributions of Hugging Face."""
        c = self.config
        ids = jnp.zeros((1, 1), jnp.int32)
        inputs = {"input_ids": ids, "token_type_ids": ids, "position_ids": ids, "segment_ids": ids}
        x, rates, stream = jnp.zeros((1, 1, c.hidden_size), jnp.float32), DropoutRates({}), partial(jax.random.fold_in, key)
        keys = jax.random.split(stream(OfMicroBatch.LAYERS), c.parameter_layers)
        embeddings = initial(Embeddings(c, jnp.float32), stream(OfMicroBatch.EMBEDDINGS), inputs, rates, None)
        params: Params = {"embeddings": embeddings}
        for name, module in self._shared_modules().items():
            sample = ids if isinstance(module, Embed) else x
            params[name] = initial(module, stream(OfMicroBatch.SHARED_MODULES + len(params)), sample)
        shared = self._shared(params, inputs)

        def layer(k: Array, first: bool) -> Params:
            return initial(self._layer(first), k, x, LayerOptions(shared, rates))

        edges = sorted({0, 1 if c.first_layer_differs else 0, c.parameter_layers})
        params["layer"] = {
            span(a, b): jax.vmap(partial(layer, first=self._is_special(a, b)))(keys[a:b])
            for a, b in itertools.pairwise(edges)
        }
        if self.pooler:
            params["pooler"] = initial(Pooler(c), stream(OfMicroBatch.HEAD), x)
        return params

    def apply(
        self,
        params: Params,
        inputs: dict[str, Array],
        *,
        rates: DropoutRates,
        key: Array | None = None,
        policy: Policy = PLAIN,
        outputs: Collection[str] = (),
        between: Callable[[Array, Any], Array] | None = None,
    ) -> dict[str, Array]:
        """Runs the encoder; returns output name -> array.

        Args:
          params: parameters; the layers may be cut into any number of stacks, and each stack is one scan.
          inputs: int32 [B, T] `input_ids` (or float `inputs_embeds` [B, T, width], or `hidden_states` [B, T, D] of the
            layer below the lowest in `params`), `token_type_ids`, `position_ids` (counted from 0 in each example) and
            `segment_ids` (0 for padding). `positions`, if present, are the rows of the position table to use instead of the
            family's. `first_token` [B, M] with M = 1 means that every row is one segment from its first token on.
          key: JAX key; None means deterministic.
          outputs: what to return besides `last_hidden_state` [B, T, D]. As in transformers 5: `hidden_states`
            [L + 1, B, T, D], from the embeddings to `last_hidden_state` (after the final norm in ModernBERT), and
            `attentions` [L, B, N, T, T], probabilities before dropout. Also `attention_scores` [L, B, N, T, T], float32,
            before softmax, and `queries`, `keys` and `values` [L, B, T, N, H] without rotary positions. L counts
            applications of layers. `attentions.3` is that of layer 3 alone, [B, N, T, T] (see `layer_outputs`).
          between: maps hidden states [B, T, D] and the number of layers below them (0: the embeddings, L: after the last
            layer) to the hidden states with which the encoder goes on.
        """
        c, k = self.config, fold(key, OfMicroBatch.EMBEDDINGS)
        if "hidden_states" in inputs:
            x = inputs["hidden_states"]
        else:
            embeddings, adapter_key = Embeddings(c, jnp.dtype(policy.dtype)), fold(k, OfLayer.ADAPTERS)
            x = run(embeddings, params["embeddings"], inputs, rates, k, adapter_key=adapter_key)
            x = between(x, 0) if between else x
        shared = self._shared(params, inputs)
        single = "first_token" in inputs and inputs["first_token"].shape[-1] == 1
        layers_key = fold(key, OfMicroBatch.LAYERS)
        collected = LayerOutputs(outputs, c.applied_layers)
        lowest = min((start for start, _, _ in stacks(params.get("layer", {}))), default=c.applied_layers)
        collected.at(lowest, x)
        for sets, stacked, first, numbers, names in self._parts(params.get("layer", {}), collected, policy):
            common, differing = rates.of_layers(numbers) if not sets else (rates, {})
            unroll = min(policy.unrolled_layers, len(numbers))
            module = self._layer(first, in_loop=unroll < len(numbers))

            def body(
                x: Array,
                scanned: tuple[Params, Array, Array, dict[DropoutSite, Array]],
                sets: list[tuple[int, Params]] = sets,
                module: Any = module,
                common: DropoutRates = common,
                names: frozenset[str] = names,
            ) -> tuple[Array, dict[str, Any]]:
                weights, number, local, differing = scanned
                each: dict[str, list[Array]] = {name: [] for name in names}
                own = [(common.at(differing), weights)]
                for i, (r, layer) in enumerate([(rates.of_layer(j), layer) for j, layer in sets] or own):
                    done = number * len(sets) + i if sets else number
                    k = fold(layers_key, done)
                    options = LayerOptions(shared, r, k, local, names, policy, single)
                    x, found = run(module, layer, x, options, adapter_key=fold(k, OfLayer.ADAPTERS))
                    x = between(x, done + 1) if between else x
                    for name, output in (found | {HIDDEN: x}).items():
                        if name in names:
                            each[name].append(output)
                return x, {name: jnp.stack(each[name]) for name in sorted(names)}

            local = np.array([bool(c.rotary and c.rotary.local[i]) for i in numbers])
            layer_rates = {name: jnp.stack([jnp.asarray(x, jnp.float32) for x in xs]) for name, xs in differing.items()}
            scanned = (stacked, jnp.asarray(numbers, jnp.int32), jnp.asarray(local), layer_rates)
            alone = unroll == len(numbers)  # then there is no loop, which prevents common subexpressions by itself
            layer_body = jax.checkpoint(body, prevent_cse=alone) if policy.checkpoint_layers else body
            x, extra = jax.lax.scan(layer_body, x, scanned, unroll=unroll)
            collected.add(numbers, len(sets) or 1, extra)
            collected.at(numbers.stop * (len(sets) or 1), x)
        if "final_norm" in params:
            x = run(LayerNorm(c.layer_norm_eps, c.norm_bias), params["final_norm"], x)
            collected.at(c.applied_layers, x)
        return collected.result() | {"last_hidden_state": x}

    def pool(self, params: Params, first_tokens: Array, key: Array | None) -> Array:
        """The pooler on [..., D] hidden states of first tokens."""
        adapter_key = fold(key, OfMicroBatch.HEAD, OfLayer.ADAPTERS)
        return run(Pooler(self.config), params["pooler"], first_tokens, adapter_key=adapter_key)

    def _layer(self, first: bool, *, in_loop: bool = False) -> Any:
        return (PreNormLayer if self.config.pre_norm else PostNormLayer)(replace(self.config, in_loop=in_loop), first)

    def _is_special(self, start: int, stop: int) -> bool:
        return self.config.first_layer_differs and (start, stop) == (0, 1)

    def _scans(self, layers: Params) -> Iterator[tuple[list[tuple[int, Params]], Params, bool, range]]:
        """The scans over layers: (shared layers by number, stacked layers, whether it is the special first layer, numbers of
        the applications). A stack is scanned over its layers; a scan over shared layers (ALBERT) repeats them.
        """
        c = self.config
        if not c.groups or not layers:
            for start, stop, weights in stacks(layers):
                yield [], weights, self._is_special(start, stop), range(start, stop)
            return
        single = [
            jax.tree.map(lambda leaf, i=i: leaf[i], weights)
            for start, stop, weights in stacks(layers)
            for i in range(stop - start)
        ]
        group_of = [int(i / (c.num_layers / c.groups)) for i in range(c.num_layers)]
        for group in dict.fromkeys(group_of):
            first = group_of.index(group)
            sets = list(enumerate(single))[group * c.inner : (group + 1) * c.inner]
            yield sets, {}, False, range(first, first + group_of.count(group))

    def _parts(
        self, layers: Params, collected: LayerOutputs, policy: Policy
    ) -> Iterator[tuple[list[tuple[int, Params]], Params, bool, range, frozenset[str]]]:
        """The scans, divided so that all layers of one return the same outputs, and the names of these."""
        for sets, stacked, first, numbers in self._scans(layers):
            unrolled = policy.unrolled_layers >= len(numbers) > 1
            for part, names in collected.pieces(numbers, len(sets) or 1, unrolled=unrolled):
                bounds = slice(part.start - numbers.start, part.stop - numbers.start)
                own = stacked if part == numbers else jax.tree.map(lambda x, bounds=bounds: x[bounds], stacked)
                yield sets, own, first, part, names

    def _shared_modules(self) -> dict[str, Any]:
        c = self.config
        modules: dict[str, Any] = {}
        if c.distance_bias:
            modules["relative_attention_bias"] = Embed(c.distance_bias, c.num_heads, c.table_init())
        if c.relative:
            modules["relative_embeddings"] = Embed(2 * c.relative.span, c.hidden_size, c.table_init())
        if c.relative_norm:
            modules["relative_norm"] = LayerNorm(c.layer_norm_eps)
        if c.pre_norm:
            modules["final_norm"] = LayerNorm(c.layer_norm_eps, c.norm_bias)
        return modules

    def _shared(self, params: Params, inputs: dict[str, Array]) -> dict[str, Any]:
        """The inputs that all layers share: segment ids, and positions inside attention."""
        c, length, modules = self.config, inputs["segment_ids"].shape[1], self._shared_modules()
        shared: dict[str, Any] = {"segment_ids": inputs["segment_ids"]}
        if c.distance_bias:
            buckets = distance_buckets(length)
            bias = run(modules["relative_attention_bias"], params["relative_attention_bias"], buckets)
            shared["distance_bias"] = bias.transpose(2, 0, 1)[None]
        if c.relative:
            table = gathered(params["relative_embeddings"]["embedding"])
            shared["relative"] = run(modules["relative_norm"], params["relative_norm"], table) if c.relative_norm else table
            shared["relative_index"] = relative_index(length, c.relative.buckets, c.relative.longest)
        if c.rotary:
            r, head_size = c.rotary, c.hidden_size // c.num_heads
            near = rotary_tables(inputs["position_ids"], head_size, r.local_theta, r.local_stretch)
            far = rotary_tables(inputs["position_ids"], head_size, r.theta, r.stretch)
            shared["rotary"] = (near, far)
        return shared


def gather(hidden: Array, positions: Array) -> Array:
    """The hidden states of some tokens of each row: [B, T, D] and int32 [B, M] to [B, M, D]."""
    return jnp.take_along_axis(hidden, positions[:, :, None], axis=1)


def mean_pool(hidden: Array, segment_ids: Array, slots: int) -> Array:
    """The mean of each example's hidden states: [B, T, D] and int32 [B, T] to float32 [B, slots, D]; 0 for empty slots."""
    numbers = jnp.arange(1, slots + 1, dtype=segment_ids.dtype)
    member = (segment_ids[:, None, :] == numbers[None, :, None]).astype(jnp.float32)
    total = jnp.einsum("bmt,btd->bmd", member, hidden.astype(jnp.float32))
    return total / jnp.maximum(member.sum(-1, keepdims=True), 1.0)
