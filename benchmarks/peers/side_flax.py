"""Hugging Face's last Flax script (transformers 4.57, examples/flax/text-classification) on texts in a file.

    python -m benchmarks.peers.side_flax DTYPE STEPS WARM MODEL_DIRECTORY TEXTS.json

It runs in another environment, with transformers 4.57.6, jax below 0.8, flax and optax, and uses nothing of jaxft. The train
step is that of run_flax_glue.py: pmap, every text padded to the full length, AdamW with masked decay, linear schedule.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["USE_TORCH"] = "0"

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformers
from flax import traverse_util
from flax.training.common_utils import onehot, shard
from flax.training.train_state import TrainState

from benchmarks.peers.compiling import listen
from benchmarks.peers.windows import Done, Windows


def decayed(params: Any) -> Any:
    """Whether weight decay applies: to everything but biases and layer norms."""
    flat = traverse_util.flatten_dict(params)
    return traverse_util.unflatten_dict({p: p[-1] != "bias" and p[-2:] != ("LayerNorm", "scale") for p in flat})


def train_step(state: Any, batch: dict[str, Any], key: Any) -> tuple[Any, Any, Any]:
    key, new = jax.random.split(key)
    labels = batch.pop("labels")

    def loss_fn(params: Any) -> Any:
        logits = state.apply_fn(**batch, params=params, dropout_rng=key, train=True)[0]
        return jnp.mean(optax.softmax_cross_entropy(logits, onehot(labels, num_classes=logits.shape[-1])))

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    grads = jax.lax.pmean(grads, "batch")
    return state.apply_gradients(grads=grads), jax.lax.pmean({"loss": loss}, "batch"), new


def main() -> None:
    dtype, steps, warm, directory, file = sys.argv[1:]
    compiling = listen()
    given = json.loads(Path(file).read_text(encoding="utf-8"))
    size, total = given["batch_size"], 100_000
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.FlaxAutoModelForSequenceClassification.from_pretrained(
        directory, num_labels=given["num_labels"], dtype=getattr(jnp, dtype)
    )
    encoded = tokenizer(*given["texts"], padding="max_length", truncation=True, max_length=given["max_length"])
    columns = {name: np.array(x, np.int32) for name, x in encoded.items()} | {"labels": np.array(given["labels"], np.int32)}
    warmup = int(0.1 * total)
    schedule = optax.join_schedules(
        [
            optax.linear_schedule(0.0, given["learning_rate"], warmup),
            optax.linear_schedule(given["learning_rate"], 0.0, total - warmup),
        ],
        [warmup],
    )
    optimizer = optax.adamw(schedule, b1=0.9, b2=0.999, eps=1e-6, weight_decay=given["weight_decay"], mask=decayed)
    state = flax.jax_utils.replicate(TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer))
    keys = jax.random.split(jax.random.PRNGKey(0), jax.local_device_count())
    step_fn = jax.pmap(train_step, axis_name="batch", donate_argnums=(0,))
    windows = Windows(int(steps), int(warm), lambda: jax.block_until_ready(state.params), compiling=compiling)
    shuffle = np.random.default_rng(0)
    try:
        while True:
            order = shuffle.permutation(len(columns["labels"]))
            for i in range(len(order) // size):
                windows.tick()
                batch = {name: x[order[i * size : (i + 1) * size]] for name, x in columns.items()}
                windows.count(examples=size, tokens=int(batch["attention_mask"].sum()), positions=batch["input_ids"].size)
                state, _, keys = step_fn(state, shard(batch), keys)
    except Done:
        return


if __name__ == "__main__":
    main()
