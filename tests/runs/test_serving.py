"""`jaxft serve` over HTTP: every route, refusals in one line, limits, the key, and what is counted."""

import base64
import json
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from starlette.testclient import TestClient

from jaxft.core import tree
from jaxft.serving.app import ROUTES, make_app
from jaxft.serving.limits import Limits
from jaxft.serving.models import names_of, open_models
from jaxft.serving.service import Service
from tests.support import tiny

PAIR = {"text": "the river", "text_pair": "a bridge"}
LONG = "storm " * 60
LIMITS = Limits(texts=4, body_bytes=4000, requests=8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The pipelines of four models: moods (three labels), ranks (one), vectors and tags."""
    folder = tmp_path_factory.mktemp("served")
    tiny.write_model(folder / "moods", labels=tiny.LABELS)
    tiny.write_model(folder / "ranks", labels=["fits"])
    tiny.write_model(folder / "vectors")
    tiny.write_model(folder / "tags", labels=["O", "B-place", "I-place"], kind="token-classification")
    opened, shared = open_models({x: str(folder / x) for x in ("moods", "ranks", "vectors", "tags")}, max_length=32)
    assert shared > 0  # the encoders have the same seed
    return opened


@contextmanager
def serving(service, **options):
    """A client of a service that is ready."""
    with TestClient(make_app(service, log="none", **options)) as client:
        while client.get("/health").status_code != 200:
            pass
        yield client


@pytest.fixture(scope="module")
def client(models):
    with serving(Service(models, LIMITS)) as client:
        yield client


def post(client, path, body, status=200, **options):
    answer = client.post(path, json=body, **options)
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(client, path, body, status, *words, **options):
    answer = client.post(path, **({"content": body} if isinstance(body, bytes) else {"json": body}), **options)
    assert answer.status_code == status, answer.text
    text = answer.json()["error"]
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return answer


def assert_equal(found, expected):
    """Two results have the same words, and numbers within 1e-6."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    else:
        assert found == (pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected)


def test_labels_are_those_of_the_pipeline(client, models):
    every = models["moods"](["the river", PAIR, "sun"], top_k=3)
    assert_equal(post(client, "/predict", {"inputs": "the river"}), every[0])
    pair = [PAIR["text"], PAIR["text_pair"]]
    assert [x["label"] for x in post(client, "/predict", {"inputs": pair})] == [x["label"] for x in every[1]]
    assert_equal(post(client, "/predict", {"inputs": [["the river"], pair, ["sun"]]}), every)
    raw = post(client, "/predict", {"inputs": "the river", "raw_scores": True})
    scores = np.exp([x["score"] for x in raw])
    assert scores / scores.sum() == pytest.approx([x["score"] for x in every[0]], abs=1e-6)


def test_texts_are_ranked_by_the_score_of_their_pairs(client, models):
    texts = ["a bridge", "sun", "the old stone"]
    pairs = [{"text": "the river", "text_pair": x} for x in texts]
    scores = [x["score"] for x in models["ranks"](pairs, function_to_apply="sigmoid")]
    found = post(client, "/rerank", {"query": "the river", "texts": texts, "model": "ranks", "return_text": True})
    assert [x["index"] for x in found] == np.argsort(scores)[::-1].tolist()
    assert [x["score"] for x in found] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    assert [x["text"] for x in found] == [texts[x["index"]] for x in found]
    refused(client, "/rerank", {"query": "a", "texts": ["b"]}, 422, "moods has 3 labels", "use /predict")


def test_embeddings_in_all_forms(client, models):
    texts = ["the river", "a bridge"]
    plain = np.array(models["vectors"](texts, pooling="mean"))
    unit = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    model = {"model": "vectors"}
    assert np.allclose(post(client, "/embed", {"inputs": texts, **model}), unit, atol=1e-6)
    assert np.allclose(post(client, "/embed", {"inputs": texts[0], "normalize": False, **model}), plain[:1], atol=1e-6)
    (tokens,) = post(client, "/embed_all", {"inputs": texts[0], **model})
    assert np.allclose(tokens, models["vectors"](texts[0])[0], atol=1e-6)
    given = {"inputs": {"source_sentence": texts[0], "sentences": texts}, **model}
    assert post(client, "/similarity", given) == pytest.approx([1.0, float(unit[0] @ unit[1])], abs=1e-6)
    answer = post(client, "/v1/embeddings", {"input": texts, "model": "vectors", "encoding_format": "base64"})
    assert answer["object"] == "list"
    assert answer["usage"]["total_tokens"] == 8
    found = [np.frombuffer(base64.b64decode(x["embedding"]), np.float32) for x in answer["data"]]
    assert np.allclose(found, unit, atol=1e-6)
    short = post(client, "/v1/embeddings", {"input": texts[0], "model": "vectors", "dimensions": 4})["data"][0]["embedding"]
    assert np.allclose(short, plain[0, :4] / np.linalg.norm(plain[0, :4]), atol=1e-6)
    wide = client.post("/v1/embeddings", json={"input": "a", "model": "vectors", "dimensions": 999})
    assert wide.status_code == 422
    assert "at most 24" in wide.json()["error"]["message"]


def test_tags_and_the_pipeline_of_any_model(client, models):
    text = "the river runs under the bridge"
    expected = models["tags"](text, aggregation_strategy="simple")
    assert_equal(post(client, "/tags", {"inputs": text, "model": "tags"}), expected)
    split = {"inputs": text.split(), "is_split_into_words": True, "model": "tags"}
    assert [x["word"] for x in post(client, "/tags", split)] == [x["word"] for x in expected]
    several = {"inputs": [text, "sun"], "parameters": {"aggregation_strategy": "first"}, "model": "tags"}
    assert len(post(client, "/pipeline", several)) == 2
    assert post(client, "/pipeline", {"inputs": PAIR, "parameters": {"top_k": 2}})[0]["label"] in tiny.LABELS


def test_the_protocol_of_kserve(client, models):
    assert client.get("/v2/health/live").json() == {"live": True}
    about = client.get("/v2/models/moods").json()
    assert [x["name"] for x in about["outputs"]] == ["label", "score", "scores"]
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["the river", "sun"]}
    answer = post(client, "/v2/models/moods/infer", {"id": "7", "inputs": [tensor]})
    assert answer["id"] == "7"
    outputs = {x["name"]: x for x in answer["outputs"]}
    assert outputs["scores"]["shape"] == [2, 3]
    rows = np.reshape(outputs["scores"]["data"], (2, 3))
    assert rows.sum(1) == pytest.approx([1, 1], abs=1e-6)
    assert [tiny.LABELS[i] for i in rows.argmax(1)] == outputs["label"]["data"]
    path = "/v2/models/moods/infer"
    refused(client, path, {"inputs": [{**tensor, "shape": [3]}]}, 422, "input text has shape [3]: must be [2]")
    refused(client, path, {"inputs": [{**tensor, "name": "words"}]}, 422, "no input 'words'", "text, text_pair")
    refused(client, path, {"inputs": []}, 422, "input text is missing")
    refused(client, path, {"inputs": [tensor], "outputs": [{"name": "x"}]}, 422, "no output 'x'", "scores")
    refused(client, "/v2/models/nobody/infer", {"inputs": [tensor]}, 404, "no model nobody", "moods, ranks")
    vectors = post(client, "/v2/models/vectors/infer", {"inputs": [tensor]})["outputs"][0]
    assert vectors["shape"] == [2, 24]
    (tags,) = post(client, "/v2/models/tags/infer", {"inputs": [tensor]})["outputs"]
    assert_equal(json.loads(tags["data"][0]), models["tags"]("the river"))


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/predict", b"{", 400, ["not JSON"]),
        ("/predict", b'{"inputs": "\\ud800"}', 400, ["not JSON"]),
        ("/predict", b'{"inputs": "\xff"}', 400, ["not JSON"]),
        ("/predict", b"[" * 3000, 400, ["not JSON"]),
        ("/predict", b"", 400, ["not JSON"]),
        ("/predict", b'{"inputs": "' + b"a" * 4000 + b'"}', 413, ["4,000 bytes"]),
        ("/predict", ["a"], 422, ["the body is ['a']", "must be an object"]),
        ("/predict", {}, 422, ["inputs is missing", "a text, a pair"]),
        ("/predict", {"input": "a"}, 422, ['unknown field "input"; did you mean "inputs"?']),
        ("/predict", {"inputs": "a", "raw_scores": 1}, 422, ["raw_scores is 1: must be true or false"]),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, ["inputs is", '[["a"], ["b"]]']),
        ("/predict", {"inputs": []}, 400, ["inputs are empty"]),
        ("/predict", {"inputs": [["a"]] * 5}, 413, ["5 inputs", "at most 4"]),
        ("/predict", {"inputs": "a", "model": "x"}, 404, ["no model x", "moods, ranks, vectors, tags"]),
        ("/predict", {"inputs": LONG}, 413, ["input 0 has 62 tokens", "at most 32", "truncate must be true"]),
        ("/predict", {"inputs": "a", "model": "vectors"}, 422, ["is for feature-extraction", "use /embed"]),
        ("/embed", {"inputs": ["a", 1], "model": "vectors"}, 422, ["must be a text or a list of texts"]),
        ("/embed", {"inputs": "a", "model": "vectors", "dimensions": 0}, 422, ["at least 1"]),
        ("/embed", {"inputs": "a", "model": "vectors", "truncation_direction": "left"}, 422, ["one of right"]),
        ("/similarity", {"inputs": {"source_sentence": "a"}, "model": "vectors"}, 422, ["sentences"]),
        ("/tags", {"inputs": "a", "model": "tags", "stride": "x"}, 422, ["stride is 'x'", "whole number"]),
        ("/tags", {"inputs": 5, "model": "tags"}, 422, ["an input is 5"]),
        ("/pipeline", {"inputs": "a", "parameters": {"top_k": True}}, 422, ["top_k is True"]),
        ("/pipeline", {"inputs": "a", "parameters": {"topk": 1}}, 422, ["no option topk"]),
        ("/pipeline", {"inputs": {"words": "a"}}, 422, ["must be a text or"]),
        ("/tokenize", {"inputs": None}, 422, ["inputs is None"]),
        ("/nowhere", {}, 404, ["there is no /nowhere", "/predict"]),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(client, path, body, status, words):
    refused(client, path, body, status, *words)


def test_another_method_is_refused(client):
    answer = client.get("/predict")
    assert answer.status_code == 405
    assert answer.json()["error"] == "GET /predict: must be POST"


def test_a_text_that_is_too_long_is_cut_if_asked_and_that_is_said(client, models):
    answer = client.post("/predict", json={"inputs": [[LONG], ["sun"]], "truncate": True})
    assert answer.status_code == 200
    assert answer.headers["x-truncated"] == "1"
    assert "x-truncated" not in client.post("/predict", json={"inputs": "sun", "truncate": True}).headers
    whole = "storm " * 30  # with both special tokens as long as can be
    assert client.post("/predict", json={"inputs": whole}).status_code == 200


def test_tokens_have_their_places(client):
    found = post(client, "/tokenize", {"inputs": "the river"})
    assert [x["text"] for x in found[0]] == ["[CLS]", "the", "river", "[SEP]"]
    assert (found[0][2]["start"], found[0][2]["stop"]) == (4, 9)


def test_requests_that_come_together_are_answered_each_with_its_own(client, models):
    texts = ["the river", "sun", "a bright stone bridge", "storm", "lake lake", "song", "under the sun", "old"]
    expected = {x: models["moods"](x, top_k=3) for x in texts}
    wrong = []

    def ask(text):
        for _ in range(5):
            found = client.post("/predict", json={"inputs": text}).json()
            if [x["label"] for x in found] != [x["label"] for x in expected[text]]:
                wrong.append((text, found))

    threads = [threading.Thread(target=ask, args=(x,)) for x in texts]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_nothing_is_compiled_after_the_server_is_ready(client, models):
    before = {name: x.forward.compiled for name, x in models.items()}
    assert all(set(x.forward.shapes) == set(before[name]) for name, x in models.items())
    post(client, "/predict", {"inputs": [["sun"], ["storm " * 20]]})
    assert {name: x.forward.compiled for name, x in models.items()} == before


def test_what_is_counted(client):
    def count(line):
        return next((float(x.split()[-1]) for x in client.get("/metrics").text.splitlines() if x.startswith(line)), 0.0)

    names = ['te_request_success_total{path="/predict"}', 'te_request_failure_total{err="Validation",path="/predict"}']
    before = [*map(count, names), count('te_texts_total{model="moods"}')]
    post(client, "/predict", {"inputs": [["sun"], ["old"]]})
    post(client, "/predict", {"inputs": 3}, 422)
    assert [*map(count, names), count('te_texts_total{model="moods"}')] == [before[0] + 1, before[1] + 1, before[2] + 2]
    client.post("/anything", json={})
    assert 'path="/anything"' not in client.get("/metrics").text


def test_the_description_names_every_route(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {x.path for x in ROUTES}
    info = client.get("/info").json()
    assert [x["name"] for x in info["models"]] == ["moods", "ranks", "vectors", "tags"]
    assert info["model_type"]["classifier"]["id2label"]["0"] == tiny.LABELS[0]
    page = client.get("/").text + client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    assert [x["id"] for x in client.get("/v1/models").json()["data"]] == ["moods", "ranks", "vectors", "tags"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda x: x.path)
def test_examples_of_the_description_are_right(client, models, route):
    """Of routes whose model is served."""
    name = {"/rerank": "ranks"}.get(route.path) or next(
        (name for name, x in models.items() if not route.tasks or x.task in route.tasks), None
    )
    if name is None:
        assert route.path in ("/answers", "/fill", "/choices")
        return
    body = dict(route.example) | ({} if "{model}" in route.path else {"model": name})
    post(client, route.path.replace("{model}", name), body)


def test_a_key_is_needed_where_there_is_one(models):
    service = Service(models, LIMITS)
    with serving(service, key="sesame") as client:
        body = {"inputs": "sun"}
        refused(client, "/predict", body, 401, "Bearer KEY")
        refused(client, "/predict", body, 401, headers={"authorization": "Bearer Sesame"})
        assert client.get("/metrics").status_code == 401
        post(client, "/predict", body, headers={"authorization": "Bearer sesame"})


def test_more_requests_than_allowed_are_refused(models):
    service = Service(models, Limits(requests=2, client_requests=1))
    with serving(service) as client:
        with service.accepted("testclient"):
            refused(client, "/predict", {"inputs": "sun"}, 429, "1 requests of testclient")
            with service.accepted("another"):
                answer = refused(client, "/predict", {"inputs": "sun"}, 429, "2 requests are being answered")
                assert answer.headers["retry-after"] == "1"
        post(client, "/predict", {"inputs": "sun"})


def test_a_failure_of_the_model_is_an_answer_and_the_server_goes_on(models, monkeypatch):
    service = Service(models, LIMITS)
    with serving(service) as client:
        with monkeypatch.context() as patch:
            patch.setattr(type(models["moods"].forward), "__call__", lambda *_: 1 / 0)
            refused(client, "/predict", {"inputs": "sun"}, 500, "server's log")
        post(client, "/predict", {"inputs": "sun"})


def test_nothing_is_served_before_all_is_compiled(models):
    service = Service(models, LIMITS)
    client = TestClient(make_app(service, log="none"))  # not started: nothing is warmed up
    refused(client, "/predict", {"inputs": "sun"}, 503, "being compiled")
    assert client.get("/health").status_code == 503
    service.engine.close()


def test_two_models_of_one_name_are_refused(fails, tmp_path):
    assert names_of(["runs/a/model", "b=runs/c", "package:x/model"]) == {
        "a": "runs/a/model",
        "b": "runs/c",
        "x": "package:x/model",
    }
    fails("serve", ["runs/a", "other/a"], "runs/a and other/a are both called a", "NAME=PATH")
    fails("serve", [tmp_path, "--port", "70000"], "--port 70000")
    fails("serve", [tmp_path, "--tls_key", "x"], "give both")


def test_a_port_in_use_is_named(fails, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fails("serve", [tmp_path, "--port", port], f"--port {port}", "in use")


def test_models_of_one_base_share_what_is_equal(models):
    one, other = (tree.flatten(models[name].forward.params) for name in ("moods", "vectors"))
    shared = [path for path, x in other.items() if one.get(path) is x]
    assert {path[0] for path in shared} == {"encoder"}
    assert len(shared) > 10
