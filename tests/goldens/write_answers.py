"""Write the golden answers beside this file, with the last pipeline for questions of Hugging Face:

    pip install "transformers<5" torch && python tests/goldens/write_answers.py

The folder holds a tiny random model, its tokenizer, and expected.json: options, and questions with their answers.
"""

import json
import random
from pathlib import Path

import torch
import transformers as hf

FOLDER = Path(__file__).resolve().parent / "answers"
WORDS = ["the", "river", "runs", "under", "old", "stone", "bridge", "##s", "##ly", "bright", "sun", "who", "where", "is"]
OTHERS = ["naïve", "New-York's", "3.14", "東京", "été", "  ", "\r\n", "<b>", "x" * 40, "...", "sunly", "bridges"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
OPTIONS = [{}, {"top_k": 3}, {"handle_impossible_answer": True, "top_k": 2}, {"align_to_words": False, "max_answer_len": 5}]


def write_model() -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, ".", ",", "-", "'", "<", ">", *LETTERS]
    words = dict.fromkeys([*pieces, *(f"##{x}" for x in LETTERS)])
    (FOLDER / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = hf.BertTokenizerFast(str(FOLDER / "vocab.txt"), model_max_length=48)
    tokenizer.save_pretrained(FOLDER)
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=48,
        initializer_range=0.6,
    )
    hf.BertForQuestionAnswering(config).save_pretrained(FOLDER)


def texts(rng: random.Random, words: list[str], most: int) -> str:
    return " ".join(rng.choice(words) for _ in range(rng.randint(1, most)))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    write_model()
    answer = hf.pipeline("question-answering", model=str(FOLDER), device=-1)
    rng, expected = random.Random(0), []
    for _ in range(40):
        row = {"question": f"who {texts(rng, WORDS, 4)}", "context": f"the {texts(rng, WORDS + OTHERS, 80)}"}
        found = [answer(**row, max_seq_len=48, doc_stride=10, max_question_len=48, **options) for options in OPTIONS]
        expected.append({**row, "answers": found})
    text = json.dumps({"options": OPTIONS, "rows": expected}, ensure_ascii=False, indent=0)
    (FOLDER / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
