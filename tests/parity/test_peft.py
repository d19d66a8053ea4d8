"""PEFT's adapter directories: PyTorch and jaxft read each other's, with the same logits."""
# ruff: noqa: E402

import json
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxft.models.peft import adapter_names

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import jaxft
from jaxft.config import PlanConfig
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.models.encoder import adapters
from jaxft.models.encoder.adapters import Adapted, Lora
from jaxft.models.families import FAMILIES
from jaxft.models.peft import read_adapter as ours
from tests.support import tiny, torch_training, zoo, zoo_torch

KIND = "text-classification"
TOLERANCE = 1e-5


# PEFT and transformers warn of what they deprecate in each other and in torch.
pytestmark = pytest.mark.filterwarnings("ignore")


def base_model(family: str, folder: Path, kind: str = KIND):
    """(config, torch model saved in `folder`)."""
    config = zoo.fixed(family, kind)
    theirs = zoo_torch.torch_model(family, kind, config, seed=3)
    theirs.save_pretrained(folder)
    return config, fresh(theirs, folder)


def linear_names(theirs) -> list[str]:
    """The last parts of the names of the dense layers in the encoder's layers."""
    inside = [n for n, m in theirs.base_model.named_modules() if isinstance(m, torch.nn.Linear) and ".0." in n]
    return sorted({name.rpartition(".")[2] for name in inside})


def randomise(model, seed: int = 0) -> None:
    """Add noise to every trainable parameter, so that B is not zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def with_peft(theirs, folder: Path, **options):
    """A random PEFT model of `theirs` in evaluation mode, saved in `folder`."""
    with warnings.catch_warnings(action="ignore"):  # fixtures call this, too
        model = peft.get_peft_model(theirs, peft.LoraConfig(**{"r": 3, "lora_alpha": 5, "task_type": "SEQ_CLS", **options}))
        randomise(model)
        model.save_pretrained(folder)
    return model.eval()


def assert_same(outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray], mask: np.ndarray) -> None:
    for name, right in expected.items():
        a, b = zoo.real(outputs[name], mask), zoo.real(right, mask)
        assert np.abs(a - b).max() <= TOLERANCE * np.abs(b).max(), name


@pytest.mark.parametrize("family", zoo.families())
def test_adapters_are_exchanged_in_both_directions(family, tmp_path):
    """LoRA on all dense layers of the encoder's layers; every other family has DoRA and rank-stabilised scales."""
    config, theirs = base_model(family, tmp_path / "base")
    odd = sorted(FAMILIES).index(family) % 2 == 1
    options = {"use_dora": odd, "use_rslora": odd, "target_modules": linear_names(theirs)}
    peft_model = with_peft(theirs, tmp_path / "theirs", **options)
    inputs = zoo.inputs_for(family, KIND, config, shortest=7)
    expected = zoo_torch.run_torch(peft_model, inputs)

    model, params = jaxft.load(str(tmp_path / "theirs"))
    outputs = jaxft.forward(model, params, inputs)
    assert_same(outputs, expected, inputs["attention_mask"])
    assert model.report.new == ()

    jaxft.save(model, params, tmp_path / "ours")
    again = peft.PeftModel.from_pretrained(fresh(theirs, tmp_path / "base"), tmp_path / "ours").eval()
    assert_same(zoo_torch.run_torch(again, inputs), outputs, inputs["attention_mask"])
    before, after = ({n: x.read() for n, x in ours.open_adapter(tmp_path / x).tensors.items()} for x in ("theirs", "ours"))
    assert before.keys() <= after.keys()  # jaxft saves the whole head, PEFT only its "classifier"
    assert all(np.array_equal(before[name], after[name]) for name in before)

    merged, kernels = jaxft.merge(model, params)
    jaxft.save(merged, kernels, tmp_path / "merged")
    whole = type(fresh(theirs, tmp_path / "base")).from_pretrained(tmp_path / "merged", attn_implementation="eager").eval()
    assert_same(zoo_torch.run_torch(whole, inputs), outputs, inputs["attention_mask"])


def fresh(theirs, base: Path):
    """The base model as it was before PEFT changed it."""
    kind = theirs.__class__
    return kind.from_pretrained(base, attn_implementation="eager")


@pytest.mark.parametrize("dora", [False, True])
def test_twenty_steps_give_the_same_losses(dora, tmp_path):
    """From PEFT's initial A and B, with AdamW, decay groups, schedule and clipping."""
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    config = {key: x for key, x in tiny.CONFIG.items() if key not in ("model_type", "architectures")} | rates
    torch_training.write_hf(tmp_path / "base", torch_training.BertForSequenceClassification, config | {"num_labels": 3})
    base = torch_training.BertForSequenceClassification.from_pretrained(tmp_path / "base")
    options = {"r": 4, "lora_alpha": 16, "use_dora": dora, "target_modules": "all-linear", "task_type": "SEQ_CLS"}
    theirs = peft.get_peft_model(base, peft.LoraConfig(**options))
    theirs.save_pretrained(tmp_path / "adapter")
    batches = []
    for seed in range(20):
        inputs = torch_training.random_inputs(config, rows=16, length=10, seed=seed, lowest_id=1)
        batches.append((inputs, inputs["input_ids"][:, 0] % 3))
    model, params = jaxft.load(str(tmp_path / "adapter"), unroll=1)
    found = torch_training.jaxft_metrics(model, params, batches, config=PlanConfig(preset="lora"))
    groups = torch_training.decay_groups(theirs, torch_training.OPTIM.weight_decay)
    adamw = torch.optim.AdamW(groups, lr=torch_training.OPTIM.learning_rate)
    expected = torch_training.torch_losses(theirs.eval(), batches, adamw)
    assert max(expected) - min(expected) > 0.05
    np.testing.assert_allclose([row["loss"] for row in found], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("albert", "pretraining"),
        ("bert", "fill-mask"),
        ("distilbert", "question-answering"),
        ("electra", "multiple-choice"),
        ("roberta", "token-classification"),
    ],
)
def test_peft_reads_trained_heads_norms_and_biases(family, kind, tmp_path):
    """So does jaxft."""
    config, theirs = base_model(family, tmp_path / "base", kind)
    model, params = jaxft.load(str(tmp_path / "base"))
    targets = [name for name in adapters.dense_modules(params) if name.endswith("query")]
    saved = {n for n in tree.all_names(params) if n.endswith((".bias", "LayerNorm.scale")) and "embeddings" not in n}
    model = ours.with_adapters(model, Lora(2, 3.0), Adapted(tuple(targets), str(tmp_path / "base"), saved=frozenset(saved)))
    params = adapters.add(params, targets, model.encoder.config.lora)
    rng = np.random.default_rng(0)

    def changed(path, x):
        name = tree.names(path)[0]
        moves = adapters.is_adapter(name) or name in saved or name.startswith("heads.")
        return (x + rng.normal(0, 0.1, x.shape)).astype(np.float32) if moves else x

    params = tree.map_with_path(changed, params)
    jaxft.save(model, params, tmp_path / "adapter")
    inputs = zoo.inputs_for(family, kind, config, shortest=7)
    outputs = jaxft.forward(model, params, inputs)
    again, loaded = jaxft.load(str(tmp_path / "adapter"))
    assert again.heads["main"].kind == kind
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    peft_model = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    expected = zoo_torch.run_torch(peft_model, inputs)
    assert_same({name: outputs[name] for name in expected}, expected, inputs["attention_mask"])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """(config, torch model, folder) of a BERT classifier."""
    folder = tmp_path_factory.mktemp("bert") / "base"
    return *base_model("bert", folder), folder


def test_adapters_with_different_ranks_and_alphas_are_read(bert, tmp_path):
    """Also with modules to save, all biases, and a head with more labels than the base's."""
    config, _, folder = bert
    with_labels = zoo_torch.transformers.BertForSequenceClassification.from_pretrained(
        folder, num_labels=9, ignore_mismatched_sizes=True, attn_implementation="eager"
    )
    options = {
        "target_modules": ["query", "value", "output.dense"],
        "rank_pattern": {"query": 5, "layer.0.attention.self.value": 2},
        "alpha_pattern": {"value": 11},
        "modules_to_save": ["embeddings.LayerNorm", "pooler"],
        "bias": "all",
    }
    theirs = with_peft(with_labels, tmp_path / "adapter", **options)
    inputs = zoo.inputs_for("bert", KIND, config)
    model, params = jaxft.load(str(tmp_path / "adapter"))
    assert len(model.labels) == 9
    assert model.encoder.config.lora.rank == 5
    outputs = jaxft.forward(model, params, inputs)
    assert_same(outputs, zoo_torch.run_torch(theirs, inputs), inputs["attention_mask"])
    jaxft.save(model, params, tmp_path / "again")
    again = jaxft.load(str(tmp_path / "again"))
    np.testing.assert_array_equal(jaxft.forward(*again, inputs)["logits"], outputs["logits"])


def test_alpha_may_be_0_except_for_some_layers(bert, tmp_path):
    config, theirs, folder = bert
    peft_model = with_peft(
        fresh(theirs, folder),
        tmp_path / "adapter",
        target_modules=["query", "value"],
        lora_alpha=0,
        alpha_pattern={"value": 3},
    )
    inputs = zoo.inputs_for("bert", KIND, config)
    outputs = jaxft.forward(*jaxft.load(str(tmp_path / "adapter")), inputs)
    expected = zoo_torch.run_torch(peft_model, inputs)
    assert_same(outputs, expected, inputs["attention_mask"])


def edit(folder: Path, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


BAD = {
    "the base is gone": ({"base_model_name_or_path": "/nowhere/model"}, "base model cannot be found .*no such directory"),
    "no base": ({"base_model_name_or_path": None}, "base_model_name_or_path is None"),
    "another method": ({"peft_type": "IA3"}, "peft_type is 'IA3': jaxft reads LORA"),
    "rank 0": ({"r": 0}, "r is 0: must be a number, 1 or more"),
    "something not computed": ({"use_qalora": True}, "use_qalora is True"),
    "a changed base": ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
    "alphas in a list": ({"alpha_pattern": ["query"]}, "alpha_pattern is .*: must map patterns to numbers"),
    "an alpha in quotes": ({"alpha_pattern": {"query": "4"}}, "alpha_pattern: query is '4': must be a number"),
    "a torn pattern": ({"alpha_pattern": {"*q": 4}}, 'alpha_pattern "\\*q" is not a regular expression'),
    "no names": ({"target_modules": [1]}, "target_modules is .*: must be a list of names, or a pattern"),
}


@pytest.fixture(scope="module")
def adapter(bert, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert") / "adapter"
    with_peft(fresh(bert[1], bert[2]), folder, target_modules=["query"])
    return folder


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_refused(adapter, tmp_path, case):
    changes, message = BAD[case]
    shutil.copytree(adapter, tmp_path / "adapter")
    edit(tmp_path / "adapter", **changes)
    with pytest.raises(UserError, match=message):
        jaxft.load(str(tmp_path / "adapter"))


def test_the_adapter_of_another_model_is_refused(adapter, bert, tmp_path):
    """The first tensor that does not fit is named, with both shapes if they differ."""
    config, theirs, _ = bert
    shutil.copytree(adapter, tmp_path / "adapter")
    width, heads = config["hidden_size"], config["num_attention_heads"]
    for name, changes, message in (
        (
            "narrow",
            {"hidden_size": 8 * heads + heads * (width != 8 * heads)},
            r"query\.lora_A\.weight is \[3, \d+\], .*asks for \[3, ",
        ),
        (
            "short",
            {"num_hidden_layers": 1},
            r"layer\.1\.attention\.self\.query\.lora_A\.weight \[3, \d+\] is not in the base model",
        ),
        (
            "deep",
            {"num_hidden_layers": config["num_hidden_layers"] + 1},
            "lacks .*query.lora_A.weight, which target_modules",
        ),
    ):
        other = type(theirs)(type(theirs.config)(**{**config, **changes}))
        other.save_pretrained(tmp_path / name)
        edit(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / name))
        with pytest.raises(UserError, match=message):
            jaxft.load(str(tmp_path / "adapter"))


def test_incomplete_and_missing_weights_are_refused(adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "adapter")
    weights = tmp_path / "adapter" / adapter_names.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        jaxft.load(str(tmp_path / "adapter"))
    weights.unlink()
    with pytest.raises(UserError, match=r"no adapter_model\.safetensors"):
        jaxft.load(str(tmp_path / "adapter"))


def test_an_adapter_is_not_saved_over_its_base_or_as_msgpack(adapter, bert):
    """It would replace config.json of the base."""
    model, params = jaxft.load(str(adapter))
    with pytest.raises(UserError, match="contains a complete model"):
        jaxft.save(model, params, bert[2])
    with pytest.raises(UserError, match="no msgpack"):
        jaxft.save(model, params, bert[2], flax=True)
