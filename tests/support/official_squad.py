"""The rules of SQuAD's official evaluation (version 2.0), written independently of the package."""

import collections
import re
import string


def normalize_answer(s):
    s = s.lower()
    s = "".join(ch for ch in s if ch not in set(string.punctuation))
    s = re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", s)
    return " ".join(s.split())


def get_tokens(s):
    return normalize_answer(s).split() if s else []


def compute_exact(a_gold, a_pred):
    return int(normalize_answer(a_gold) == normalize_answer(a_pred))


def compute_f1(a_gold, a_pred):
    gold_toks, pred_toks = get_tokens(a_gold), get_tokens(a_pred)
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision, recall = num_same / len(pred_toks), num_same / len(gold_toks)
    return 2 * precision * recall / (precision + recall)


def raw_scores(golds, predictions):
    """({id: exact}, {id: F1}) of {id: [gold]} and {id: prediction}."""
    exact, f1 = {}, {}
    for key, texts in golds.items():
        gold_answers = [text for text in texts if normalize_answer(text)] or [""]
        exact[key] = max(compute_exact(a, predictions[key]) for a in gold_answers)
        f1[key] = max(compute_f1(a, predictions[key]) for a in gold_answers)
    return exact, f1


def evaluate(golds, predictions):
    """The official scores in percent: of all questions, of those with an answer, and of those without."""
    exact, f1 = raw_scores(golds, predictions)
    has = {key for key, texts in golds.items() if any(normalize_answer(text) for text in texts)}

    def mean(values, keys):
        return 100.0 * sum(values[key] for key in keys) / len(keys)

    out = {"exact_match": mean(exact, golds), "f1": mean(f1, golds)}
    for kind, keys in {"HasAns": has, "NoAns": golds.keys() - has}.items():
        if keys:
            out |= {f"{kind}_exact": mean(exact, keys), f"{kind}_f1": mean(f1, keys), f"{kind}_total": len(keys)}
    return out


def find_best_thresh(preds, scores, na_probs, qid_to_has_ans):
    """The official search for a threshold: (best sum of scores, threshold)."""
    cur_score = sum(1 for k in qid_to_has_ans if not qid_to_has_ans[k])
    best_score, best_thresh = cur_score, 0.0
    for qid in sorted(na_probs, key=lambda k: na_probs[k]):
        cur_score += scores[qid] if qid_to_has_ans[qid] else -1 if preds[qid] else 0
        if cur_score > best_score:
            best_score, best_thresh = cur_score, na_probs[qid]
    return best_score, best_thresh
