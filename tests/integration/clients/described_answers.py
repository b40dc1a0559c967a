"""Answers, chunks and errors against a published description: described_answers.py ROOT_URL MODEL OPENAPI_JSON [API_KEY].

OPENAPI_JSON is openapi.json of the repository openai/openai-openapi, or the description that Anthropic's libraries are generated from
(their .stats.yml says where it lies). No package registry carries these: so this is run by hand. It needs the package jsonschema and what
its neighbour typed_answers.py needs, which ./check runs.
"""
import json
import sys

import jsonschema

sys.argv, description = [sys.argv[0], *sys.argv[1:3], *sys.argv[4:]], sys.argv[3]
from typed_answers import MESSAGES, MODEL, ask, events, fill  # noqa: E402: it reads the arguments

DOCUMENT = json.loads(open(description, encoding="utf-8").read())
# One schema of Anthropic's says "type": null where it means none.
for _schema in DOCUMENT["components"]["schemas"].values():
    if _schema.get("type", "") is None:
        del _schema["type"]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Members that the service itself answers with null, in a stream before they are known, though the description does not say so; the first
# token of an echoed prompt has no probability.
NULL = {"finish_reason", "logprobs", "refusal", "usage", "user", "token_logprobs", "top_logprobs"}
checked = 0


def validate(name, data):
    global checked
    checked += 1
    schema = {"$schema": DIALECT, "$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    bad = []
    for error in jsonschema.Draft202012Validator(schema).iter_errors(fill(data)):
        names = [part for part in error.absolute_path if isinstance(part, str)]
        if error.instance is not None or not names or names[-1] not in NULL:
            bad.append(error)
    assert not bad, f"{name}: {[(list(e.absolute_path), e.message[:300]) for e in bad]}"


def whole(name, path, body, status=200):
    code, text = ask(path, body)
    assert code == status, (path, body, code, text)
    validate(name, json.loads(text))
    return json.loads(text)


def stream(name, path, body):
    code, text = ask(path, {**body, "stream": True})
    assert code == 200, (path, body, code, text)
    for data in events(text):
        # Of a response that is under way the service itself answers null here.
        for member in ("user", "usage"):
            if data.get("response", {}).get(member, "") is None:
                del data["response"][member]
        validate(name, data)


def openai():
    chat = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8}
    for more in ({}, {"n": 2}, {"logprobs": True, "top_logprobs": 2}, {"stop": "4"}):
        whole("CreateChatCompletionResponse", "/v1/chat/completions", {**chat, **more})
        stream("CreateChatCompletionStreamResponse", "/v1/chat/completions", {**chat, **more, "stream_options": {"include_usage": True}})
    for more in ({}, {"echo": True, "logprobs": 2}):
        whole("CreateCompletionResponse", "/v1/completions", {"model": MODEL, "prompt": "The", "max_tokens": 4, **more})
        stream("CreateCompletionResponse", "/v1/completions", {"model": MODEL, "prompt": "The", "max_tokens": 4, **more})
    for more in ({}, {"dimensions": None}):
        whole("CreateEmbeddingResponse", "/v1/embeddings", {"model": MODEL, "input": ["Hello", "World"], **more})
    validate("ListModelsResponse", json.loads(ask("/v1/models")[1]))
    validate("Model", json.loads(ask("/v1/models/" + MODEL)[1]))
    response = {"model": MODEL, "input": "What is 12 + 30?", "max_output_tokens": 8, "instructions": "Be brief.", "metadata": {"a": "b"}}
    first = whole("Response", "/v1/responses", response)
    for more in ({}, {"include": ["message.output_text.logprobs"], "top_logprobs": 2}, {"max_output_tokens": 64}):
        whole("Response", "/v1/responses", {**response, **more})
        stream("ResponseStreamEvent", "/v1/responses", {**response, **more})
    validate("ResponseItemList", json.loads(ask(f"/v1/responses/{first['id']}/input_items")[1]))
    for body, status in (({**chat, "temperature": 9}, 400), ({**chat, "model": "other"}, 404), ({**chat, "frobnicate": 1}, 400)):
        whole("ErrorResponse", "/v1/chat/completions", body, status)
    whole("ErrorResponse", "/v1/embeddings", {"model": MODEL, "input": ""}, 400)


def anthropic():
    message = {"model": MODEL, "max_tokens": 8, "messages": MESSAGES}
    for more in ({}, {"system": "Be brief."}, {"stop_sequences": ["4"]}, {"max_tokens": 64}):
        whole("Message", "/v1/messages", {**message, **more})
        code, text = ask("/v1/messages", {**message, **more, "stream": True})
        assert code == 200, text
        for data in events(text):
            # A later addition.
            if data["type"] != "ping":
                validate("MessageStreamEvent", data)
    for body, status in (({**message, "temperature": 9}, 400), ({**message, "model": "other"}, 404), ({**message, "frobnicate": 1}, 400)):
        whole("ErrorResponse", "/v1/messages", body, status)


{"OpenAI API": openai, "Anthropic API": anthropic}[DOCUMENT["info"]["title"]]()
print(f"{checked} answers, chunks and errors agree with {DOCUMENT['info']['title']} {DOCUMENT['info']['version']}")
