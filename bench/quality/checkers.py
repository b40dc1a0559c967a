"""Judges an answer. A check is a small object in the prompt's line:

{"type": "contains", "all": [...]}        every text occurs, case and neighbouring letters respected loosely (see _has)
{"type": "equals", "text": T}             the same text, but for white space at the ends
{"type": "starts", "text": T}             begins with T, case ignored
{"type": "number", "value": N}            the first number after the last "=" is N (the first number, where there is no "=")
{"type": "first_number", "value": N}      the first number is N
{"type": "json", "value": V}              the whole answer is JSON and equals V
{"type": "calls", "value": [C, ...]}      the whole answer is these calls of tools, {"name", "parameters"}: alone or in a list
{"type": "story", "all": [...], "sentences": N}   whole sentences, at least N, that mention each word
"""

import json
import re

_NUMBER = re.compile(r"-?\d+")


def _has(answer, text):
    """Occurs, case ignored, and not as a part of a longer word or number."""
    front = r"(?<![a-z0-9])" if text[:1].isalnum() else ""
    back = r"(?![a-z0-9])" if text[-1:].isalnum() else ""
    return re.search(front + re.escape(text.lower()) + back, answer.lower()) is not None


def _first_number(answer):
    found = _NUMBER.search(answer)
    return int(found.group()) if found else None


def _json(answer):
    """The answer's value; an empty tuple, which no JSON is, where it is none."""
    try:
        return json.loads(answer)
    except ValueError:
        return ()


def _calls(answer):
    value = _json(answer)
    return [value] if isinstance(value, dict) else value


def _story(answer, check):
    text = answer.strip()
    sentences = [s for s in re.split(r"[.!?][\"']?(?:\s+|$)", text) if s.strip()]
    whole = bool(text) and text.rstrip("\"'")[-1:] in (".", "!", "?")
    return (
        whole
        and len(sentences) >= check["sentences"]
        and all(w.lower() in text.lower() for w in check["all"])
    )


def right(answer, check):
    """Whether the answer passes."""
    kind = check["type"]
    if kind == "contains":
        return all(_has(answer, text) for text in check["all"])
    if kind == "equals":
        return answer.strip() == check["text"].strip()
    if kind == "starts":
        return answer.strip().lower().startswith(check["text"].lower())
    if kind == "number":
        return _first_number(answer.rsplit("=", 1)[-1]) == check["value"]
    if kind == "first_number":
        return _first_number(answer) == check["value"]
    if kind == "json":
        return _json(answer) == check["value"]
    if kind == "calls":
        return _calls(answer) == check["value"]
    if kind == "story":
        return _story(answer, check)
    raise ValueError(f"unknown check {kind!r}")
