"""Valid requests to every door of the gateway, and random changes of them. Standard library only."""
from __future__ import annotations

import copy
import json
import random

TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"}, {"role": "user", "content": "And?"}]

# (method, path, body): every path, and every field that its reader knows, at least once.
REQUESTS = [
    ("POST", "/v1/chat/completions", {"messages": CHAT, "max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1,
                                      "seed": 1, "stop": ["x"], "n": 2, "logprobs": True, "top_logprobs": 2, "logit_bias": {"5": 1},
                                      "frequency_penalty": 0.1, "presence_penalty": 0.1, "stream": True,
                                      "stream_options": {"include_usage": True}, "user": "u"}),
    ("POST", "/v1/chat/completions", {"messages": CHAT[:2], "max_completion_tokens": 2, "tools": [TOOL], "tool_choice": "none",
                                      "parallel_tool_calls": True, "response_format": {"type": "text"}}),
    ("POST", "/v1/chat/completions", {"messages": CHAT[:2], "max_tokens": 2, "response_format": {
        "type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}}),
    ("POST", "/v1/chat/completions", {"messages": CHAT[:2], "max_tokens": 2, "tools": [TOOL], "tool_choice": "required", "stream": True}),
    ("POST", "/v1/completions", {"prompt": "Hello", "max_tokens": 2, "guided_regex": "[a-z]{2,}", "guided_choice": None}),
    ("POST", "/v1/completions", {"prompt": ["Hello", "The"], "max_tokens": 2, "echo": True, "logprobs": 1, "n": 1, "stop": "x"}),
    ("POST", "/v1/completions", {"prompt": [[2, 5, 7]], "max_tokens": 1, "stream": True, "ignore_eos": True}),
    ("POST", "/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
                                         {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                                         {"type": "function_call_output", "call_id": "c", "output": "1"}],
                               "instructions": "Be brief.", "max_output_tokens": 2, "metadata": {"a": "b"}, "store": True,
                               "include": ["message.output_text.logprobs"], "top_logprobs": 1, "stream": True}),
    ("POST", "/v1/responses", {"input": "Hello", "max_output_tokens": 2, "text": {"format": {"type": "text"}}, "truncation": "auto",
                               "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}], "tool_choice": "none"}),
    ("GET", "/v1/responses/resp_0123", None),
    ("DELETE", "/v1/responses/resp_0123", None),
    ("POST", "/v1/messages", {"max_tokens": 2, "system": [{"type": "text", "text": "Be brief."}], "messages": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42", "is_error": False},
                                     {"type": "text", "text": "And?"}]}],
                              "stop_sequences": ["x"], "temperature": 0.5, "top_k": 3, "stream": True}),
    ("POST", "/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "Hello"}],
                                           "tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "none"}}),
    ("POST", "/api/chat", {"messages": [{"role": "user", "content": "Hello"}], "options": {"num_predict": 2, "seed": 1, "stop": ["x"]},
                           "keep_alive": "5m", "format": "", "logprobs": True, "top_logprobs": 1}),
    ("POST", "/api/generate", {"prompt": "Hello", "system": "Be brief.", "options": {"num_predict": 2}, "stream": False}),
    ("POST", "/api/generate", {"prompt": "Hello", "raw": True, "options": {"num_predict": 1, "temperature": 0}}),
    ("POST", "/api/show", {"model": "tiny"}),
    ("POST", "/v1/embeddings", {"input": ["Hello", "The"], "encoding_format": "base64", "dimensions": None, "embd_normalize": 2}),
    ("POST", "/v1/embeddings", {"input": [[2, 5, 7], [2]], "encoding_format": "float", "user": "u"}),
    ("POST", "/api/embed", {"input": ["Hello"], "truncate": True, "options": {"num_ctx": 64}, "keep_alive": "5m"}),
    ("POST", "/api/embeddings", {"prompt": "Hello"}),
    ("GET", "/api/tags", None),
    ("GET", "/v1/models/tiny", None),
    ("POST", "/tokenize", {"prompt": "Hello", "add_special_tokens": True, "return_token_strs": True}),
    ("POST", "/tokenize", {"messages": CHAT[:2], "add_generation_prompt": True}),
    ("POST", "/detokenize", {"tokens": [2, 5, 7]}),
]
VALUES = [None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, -1e308, 2**31, 2**63, 2**64, -2**63, 10**30, "", "x", "\u0000", "\ud83d\ude00",
          "<end_of_turn>", "a" * 300, [], [[]], {}, [None], {"": None}, {"type": "text", "text": "x"}, [1, "a"], [[[[[[[[]]]]]]]]]
NAMES = sorted({key for _, _, body in REQUESTS if body for key in body} | {"model", "tools", "format", "options", "grammar", "suffix",
               "previous_response_id", "continue_final_message", "add_generation_prompt", "thinking", "guided_json", "frobnicate", ""})


def places(node, path=()):
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from places(child, path + (key,))


def change_tree(body, pick: random.Random):
    body = copy.deepcopy(body)
    for _ in range(pick.randint(1, 3)):
        path = pick.choice(list(places(body)))
        if not path:
            if isinstance(body, dict):
                body[pick.choice(NAMES)] = copy.deepcopy(pick.choice(VALUES))
            continue
        parent = body
        for key in path[:-1]:
            parent = parent[key]
        kind = pick.randrange(4)
        if kind == 0:
            del parent[path[-1]]
        elif kind == 1 and isinstance(parent, list):
            parent.extend(copy.deepcopy(parent[path[-1]]) for _ in range(pick.choice([1, 3, 40])))
        elif kind == 2 and isinstance(parent, dict):
            parent[pick.choice(NAMES)] = parent.pop(path[-1])
        else:
            parent[path[-1]] = copy.deepcopy(pick.choice(VALUES))
    return body


def change_bytes(data: bytes, pick: random.Random) -> bytes:
    data = bytearray(data)
    for _ in range(pick.randint(1, 4)):
        at = pick.randrange(len(data) + 1)
        kind = pick.randrange(4)
        if kind == 0 and data:
            data[at % len(data)] = pick.randrange(256)
        elif kind == 1:
            del data[at:at + pick.choice([1, 2, 30])]
        elif kind == 2:
            data[at:at] = bytes(pick.randrange(256) for _ in range(pick.choice([1, 4])))
        else:
            data[at:at] = data[:pick.randrange(64)]
    return bytes(data)


def changed_request(pick: random.Random):
    """(method, path, body bytes or None)"""
    method, path, body = pick.choice(REQUESTS)
    data = None
    if body is not None:
        data = json.dumps(change_tree(body, pick) if pick.random() < 0.8 else body).encode()
        if pick.random() < 0.25:
            data = change_bytes(data, pick)
    if pick.random() < 0.05:
        path = "".join(c for c in change_bytes(path.encode(), pick).decode("latin-1") if "!" <= c <= "~") or "/"
    if pick.random() < 0.02:
        method = pick.choice(["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"])
    return method, path, data


def field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


# Of tandem.v1.Inference: a method and a message that it takes (as protobuf's wire format has it).
GRPC_REQUESTS = [
    ("Generate", field(2, field(1, field(1, b"user") + field(2, b"Hello"))) + b"\x28\x02\x60\x02" + field(11, b"x")),
    ("Generate", field(3, b"Hello") + b"\x28\x01\x88\x01\x01"),
    ("Generate", field(4, field(1, b"\x02\x05\x07")) + b"\x28\x02\x50\x07"),
    ("Embed", field(2, b"Hello") + b"\x20\x01"),
    ("Embed", field(3, field(1, b"\x02\x05\x07"))),
    ("Tokenize", field(1, b"Hello") + b"\x10\x01"),
    ("Detokenize", field(1, b"\x02\x05\x07")),
    ("GetModel", b""),
]


def changed_call(pick: random.Random):
    method, message = pick.choice(GRPC_REQUESTS)
    return method, change_bytes(message, pick) if pick.random() < 0.9 else message
