"""Answers, chunks and errors against the types that the official libraries are generated with: typed_answers.py ROOT_URL MODEL [API_KEY].

The types of `openai`, `anthropic` and `ollama` are made from their services' published descriptions. Here they are strict: a missing
member, one of another type, and one that the description does not know (but for EXTRA) is a failure. Standard library for the requests.
"""
import json
import sys
import typing
import urllib.error
import urllib.request

import anthropic.types
import ollama
import openai.types
import openai.types.chat
import openai.types.responses
import pydantic

ROOT, MODEL = sys.argv[1:3]
KEY = sys.argv[3] if len(sys.argv) > 3 else "none"
MESSAGES = [{"role": "user", "content": "What is 12 + 30?"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"], "additionalProperties": False}
FUNCTION = {"name": "weather", "description": "The weather of a city.", "parameters": PARAMETERS}
# Members beyond a description: other servers' names for the context's length and Anthropic's beside OpenAI's in /v1/models; OpenAI's new
# ones that its library does not know yet, and the bytes of log-probabilities, which its types have in items but not in events.
EXTRA = {"capabilities", "max_model_len", "context_length", "context_window", "type", "display_name", "created_at", "has_more", "first_id", "last_id",
         "completed_at", "frequency_penalty", "presence_penalty", "max_tool_calls", "request_id", "name", "store",
         "bytes"}


def ask(path, body=None, method=None):
    """(status, text)"""
    request = urllib.request.Request(ROOT + path, json.dumps(body).encode() if body is not None else None, method=method, headers={
        "Content-Type": "application/json", "Authorization": f"Bearer {KEY}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=240) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def events(text):
    """The data of server-sent events; an event's name, where it has one, is its type."""
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        if lines["data"] == "[DONE]":
            continue
        data = json.loads(lines["data"])
        assert "event" not in lines or lines["event"] == data["type"], block
        yield data


def surplus(value, path=""):
    """Members that a model took though its description has none of the kind."""
    if isinstance(value, pydantic.BaseModel):
        for name in (value.model_extra or {}):
            if name not in EXTRA:
                yield f"{path}.{name}"
        for name in type(value).model_fields:
            yield from surplus(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from surplus(entry, f"{path}[{index}]")


def validate(kind, data):
    value = pydantic.TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    found = list(surplus(value))
    assert not found, f"{kind}: members that the description does not have: {found}"
    return value


def whole(kind, path, body, status=200):
    code, text = ask(path, body)
    assert code == status, (path, body, code, text)
    return validate(kind, fill(json.loads(text)))


def fill(data):
    """What the service itself answers with null, though its description does not say so: the end of a stream of completions before it is
    known, and the log-probability of an echoed prompt's first token."""
    for choice in data["choices"] if data.get("object") == "text_completion" else []:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
        for name, value in (("token_logprobs", 0.0), ("top_logprobs", {})):
            entries = (choice["logprobs"] or {}).get(name)
            if entries and entries[0] is None:
                entries[0] = value
    return data


def stream(kind, path, body):
    code, text = ask(path, {**body, "stream": True})
    assert code == 200, (path, body, code, text)
    return [validate(kind, fill(data)) for data in events(text)]


class OpenAiError(pydantic.BaseModel, extra="forbid"):
    class Inner(pydantic.BaseModel, extra="forbid"):
        message: str
        type: str
        param: typing.Optional[str]
        code: typing.Optional[str]
    error: Inner


def check_openai():
    chat = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8}
    call = {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required", "max_tokens": 200}
    for more in ({}, {"n": 2}, {"logprobs": True, "top_logprobs": 2}, {"stop": "4"}, call):
        whole(openai.types.chat.ChatCompletion, "/v1/chat/completions", {**chat, **more})
        stream(openai.types.chat.ChatCompletionChunk, "/v1/chat/completions", {**chat, **more, "stream_options": {"include_usage": True}})
    completion = {"model": MODEL, "prompt": "The", "max_tokens": 4}
    for more in ({}, {"echo": True, "logprobs": 2}):
        whole(openai.types.Completion, "/v1/completions", {**completion, **more})
        stream(openai.types.Completion, "/v1/completions", {**completion, **more})
    validate(openai.types.Model, json.loads(ask("/v1/models/" + MODEL)[1]))
    for body, status in (({**chat, "temperature": 9}, 400), ({**chat, "model": "other"}, 404), ({**chat, "frobnicate": 1}, 400)):
        whole(OpenAiError, "/v1/chat/completions", body, status)


def check_responses():
    body = {"model": MODEL, "input": "What is 12 + 30?", "max_output_tokens": 8, "instructions": "Be brief.", "metadata": {"a": "b"}}
    first = whole(openai.types.responses.Response, "/v1/responses", body)
    for more in ({}, {"include": ["message.output_text.logprobs"], "top_logprobs": 2}, {"max_output_tokens": 64},
                 {"tools": [{"type": "function", **FUNCTION, "strict": True}], "tool_choice": "required", "max_output_tokens": 200}):
        parts = stream(openai.types.responses.ResponseStreamEvent, "/v1/responses", {**body, **more})
        assert [p.sequence_number for p in parts] == list(range(len(parts)))
        assert parts[-1].type in ("response.completed", "response.incomplete")
    whole(openai.types.responses.Response, "/v1/responses", {**body, "previous_response_id": first.id})
    validate(openai.types.responses.Response, json.loads(ask(f"/v1/responses/{first.id}")[1]))
    items = json.loads(ask(f"/v1/responses/{first.id}/input_items")[1])
    for item in items["data"]:
        validate(openai.types.responses.ResponseItem, item)
    whole(OpenAiError, "/v1/responses", {**body, "previous_response_id": "resp_none"}, 400)


def check_anthropic():
    body = {"model": MODEL, "max_tokens": 8, "messages": MESSAGES}
    whole(anthropic.types.Message, "/v1/messages", body)
    tool = {"name": "weather", "input_schema": PARAMETERS}
    call = {"tools": [tool], "tool_choice": {"type": "any"}, "max_tokens": 200}
    assert whole(anthropic.types.Message, "/v1/messages", {**body, **call}).stop_reason in ("tool_use", "max_tokens")
    for more in ({}, {"stop_sequences": ["4"]}, {"max_tokens": 64}, call):
        kinds = []
        code, text = ask("/v1/messages", {**body, **more, "stream": True})
        assert code == 200, text
        for data in events(text):
            kinds.append(data["type"])
            if data["type"] != "ping":
                validate(anthropic.types.RawMessageStreamEvent, data)
        assert kinds[0] == "message_start" and kinds[-1] == "message_stop", kinds
    whole(anthropic.types.MessageTokensCount, "/v1/messages/count_tokens", {"model": MODEL, "messages": MESSAGES})
    for bad, status in (({**body, "temperature": 9}, 400), ({**body, "model": "other"}, 404)):
        whole(anthropic.types.ErrorResponse, "/v1/messages", bad, status)


def check_embeddings():
    for more in ({}, {"encoding_format": "float"}):
        found = whole(openai.types.CreateEmbeddingResponse, "/v1/embeddings", {"model": MODEL, "input": ["Hello", "World"], **more})
        assert [entry.index for entry in found.data] == [0, 1] and abs(sum(x * x for x in found.data[0].embedding) - 1) < 1e-3
    for body in ({"model": MODEL, "input": ""}, {"model": MODEL, "input": "x", "dimensions": 1}):
        whole(OpenAiError, "/v1/embeddings", body, 400)
    for kind, path, text in ((ollama.EmbedResponse, "/api/embed", "input"), (ollama.EmbeddingsResponse, "/api/embeddings", "prompt")):
        whole(kind, path, {"model": MODEL, text: "Hello"})


def check_ollama():
    chat = {"model": MODEL, "messages": MESSAGES, "options": {"num_predict": 8}}
    generate = {"model": MODEL, "prompt": "The", "options": {"num_predict": 8}}
    for kind, path, body in ((ollama.ChatResponse, "/api/chat", chat), (ollama.GenerateResponse, "/api/generate", generate)):
        whole(kind, path, {**body, "stream": False})
        code, text = ask(path, body)
        assert code == 200, text
        lines = [validate(kind, json.loads(line)) for line in text.splitlines()]
        assert lines[-1].done and not any(line.done for line in lines[:-1])
    # Dates are texts in JSON: these are not strict.
    for kind, path in ((ollama.ListResponse, "/api/tags"), (ollama.ProcessResponse, "/api/ps")):
        pydantic.TypeAdapter(kind).validate_json(ask(path)[1])
    pydantic.TypeAdapter(ollama.ShowResponse).validate_json(ask("/api/show", {"model": MODEL})[1])


def main():
    for check in (check_openai, check_responses, check_anthropic, check_embeddings, check_ollama):
        check()
        print(f"{check.__name__}: every answer has its type")


if __name__ == "__main__":
    main()
