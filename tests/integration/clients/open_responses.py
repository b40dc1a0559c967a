"""The Responses API against the Open Responses specification: open_responses.py ROOT_URL MODEL [API_KEY].

The package openresponses-types is generated from that specification's published description. The situations are those of its acceptance
tests (openresponses.org/compliance) that go over HTTP; every response and every event must have its type, strictly. Prints what
python_clients.py prints.
"""
import importlib.metadata
import json
import re
import struct
import base64
import traceback
import zlib

import openresponses_types
import pydantic

from typed_answers import MODEL, ask, events, surplus

# Events by the name on the wire: every model of the package that has one.
EVENTS = {}
for _name in dir(openresponses_types):
    _kind = getattr(openresponses_types, _name)
    if re.fullmatch(r"\w+StreamingEvent", _name):
        for _value in _kind.model_fields["type"].annotation:
            EVENTS[_value.value] = _kind
TOOL = {"type": "function", "name": "weather", "description": "The weather of a place", "strict": True, "parameters": {
    "type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"], "additionalProperties": False}}


def said(role, content):
    return {"type": "message", "role": role, "content": content}


def picture():
    """A PNG of one red dot."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def typed(kind, data):
    # Not strict: the package's own enums come as strings.
    value = pydantic.TypeAdapter(kind).validate_json(json.dumps(data))
    found = list(surplus(value))
    assert not found, f"{kind}: members that the description does not have: {found}"
    return value


def respond(items, **more):
    code, text = ask("/v1/responses", {"model": MODEL, "input": items, "max_output_tokens": 256, "temperature": 0, **more})
    assert code == 200, text
    response = typed(openresponses_types.ResponseResource, json.loads(text))
    assert response.output, "no output"
    return response


def completed(items):
    assert respond(items).status == "completed"


def stream(items, **more):
    code, text = ask("/v1/responses", {"model": MODEL, "input": items, "max_output_tokens": 256, "temperature": 0, "stream": True, **more})
    assert code == 200, text
    parts = list(events(text))
    for part in parts:
        assert part["type"] in EVENTS, f"unknown event {part['type']}"
        typed(EVENTS[part["type"]], part)
    assert [part["sequence_number"] for part in parts] == list(range(len(parts)))
    assert parts[-1]["type"] == "response.completed", parts[-1]
    return parts


def tools():
    output = respond([said("user", "What is the weather in Rome?")], tools=[TOOL], tool_choice="required").output
    assert any(json.loads(item.model_dump_json())["type"] == "function_call" for item in output), output


def tools_stream():
    parts = stream([said("user", "What is the weather in Rome?")], tools=[TOOL], tool_choice="required")
    kinds = [part["type"] for part in parts]
    assert "response.function_call_arguments.delta" in kinds and "response.function_call_arguments.done" in kinds, kinds
    for kind in ("response.output_item.added", "response.output_item.done"):
        assert any(part["type"] == kind and part["item"]["type"] == "function_call" for part in parts), kind


CHECKS = {
    "chat": lambda: completed([said("user", "What is 12 + 30?")]),
    "stream": lambda: stream([said("user", "What is 12 + 30?")]),
    "tools": tools,
    "tools stream": tools_stream,
    "system prompt": lambda: completed([said("system", "Be brief."), said("user", "Say hello.")]),
    "several turns": lambda: completed([said("user", "My name is Ann."), said("assistant", "Hello Ann!"), said("user", "What is my name?")]),
    "image": lambda: completed([said("user", [{"type": "input_text", "text": "What is this?"},
                                              {"type": "input_image", "image_url": picture()}])]),
}


def outcome(check):
    try:
        check()
    except Exception as error:  # noqa: BLE001: whatever goes wrong is the outcome
        text = "".join(traceback.format_exception(error))
        refused = "unsupported_parameter" in text or "unsupported_content_type" in text
        return "refused" if refused else f"FAILED: {text[-1500:]}"
    return "passed"


if __name__ == "__main__":
    print(json.dumps({"version": importlib.metadata.version("openresponses-types"),
                      "checks": {name: outcome(check) for name, check in CHECKS.items()}}))
