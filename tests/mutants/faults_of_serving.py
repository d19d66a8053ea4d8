"""Small faults of the server, of artefacts and of long predictions."""

from tests.mutants.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "outputs-of-another-request",
        "jaxft/serving/joined.py",
        "examples={name: x[examples[i] : examples[i + 1]] for name, x in summary.examples.items()},",
        "examples={name: x[: len(parts[i])] for name, x in summary.examples.items()},",
        "Of requests that run together, each gets the results of the first.",
    ),
    Fault(
        "cut-texts-are-not-said",
        "jaxft/serving/service.py",
        "if most > encoder.max_length:",
        "if most > 2 * encoder.max_length:",
        "A text that is a little too long is cut without a word.",
    ),
    Fault(
        "a-wrong-key-opens",
        "jaxft/serving/access.py",
        'return hmac.compare_digest(given.encode(), f"Bearer {key}".encode())',
        'return given.lower() == f"Bearer {key}".lower()',
        "The key is compared without its case.",
    ),
    Fault(
        "a-batch-takes-all-that-waits",
        "jaxft/serving/engine.py",
        "full = bool(chosen) and tokens + job.tokens > most",
        "full = False",
        "A batch has any number of tokens, and so any size in memory.",
    ),
    Fault(
        "a-loss-of-quality-is-a-gain",
        "jaxft/deploy/scores.py",
        "lost = (before[metric] - after[metric]) * better",
        "lost = (after[metric] - before[metric]) * better",
        "A smaller variant is written although its score is much worse.",
    ),
    Fault(
        "a-loop-forgets-what-it-carries",
        "jaxft/deploy/onnx/convert.py",
        "        carry = found[:carried]\n",
        "",
        "In a graph of ONNX, every layer reads the embeddings, and the last one alone counts.",
    ),
    Fault(
        "rows-of-another-command-are-used",
        "jaxft/core/partial_output.py",
        'if changed := difference(state["made_of"], self._made_of):',
        'if changed := difference(state["made_of"], state["made_of"]):',
        "A prediction goes on after rows that another model, input or option gave.",
    ),
    Fault(
        "torn-rows-stay",
        "jaxft/core/partial_output.py",
        "            os.ftruncate(self._descriptor, self._size)\n",
        "",
        "What a killed command wrote of a row may stand at the end of the output.",
    ),
)
