"""Tools, calls and results as text, byte for byte as the gateway writes and reads them
(gateway/ingress/request/tool_text.cc)."""

import json

_INSTRUCTIONS = """You have access to functions. If you decide to invoke any of the function(s), you MUST put it in the format of
{"name": function name, "parameters": dictionary of argument name and its value}
"""
_SEVERAL = 'To invoke several functions, put them in a list: [{"name": ...}, {"name": ...}]\n'
_ALONE = "\nYou SHOULD NOT include any other text in the response if you call a function\n"


def spelled(value):
    return json.dumps(value, ensure_ascii=False)


def instructions(functions, parallel):
    """What stands before the first question; functions: [{"name", "description"?, "parameters"?}]."""
    lines = ",\n".join(spelled(f) for f in functions)
    return f"{_INSTRUCTIONS}{_SEVERAL if parallel else ''}{_ALONE}[\n{lines}\n]"


def calls_text(calls):
    """The answer that makes these calls: [(name, arguments)]."""
    parts = [spelled({"name": name, "parameters": arguments}) for name, arguments in calls]
    return parts[0] if len(parts) == 1 else "[" + ", ".join(parts) + "]"


def output_text(name, content):
    """The turn that brings what a tool gave: `content` is the text of the tool's message."""
    try:
        output = json.loads(content)
    except ValueError:
        output = content
    return f"```tool_output\n{spelled({'name': name, 'output': output})}\n```"


def plain_messages(line):
    """A line of a test set as messages of text alone, as the gateway makes them of such a request."""
    out, names = [], {}
    if "tools" in line:
        functions = [tool["function"] for tool in line["tools"]]
        text = instructions(functions, line.get("parallel_tool_calls", True))
        out.append({"role": "system", "content": text})
    for message in line["messages"]:
        role, text = message["role"], message.get("content") or ""
        if role == "tool":
            role, text = "user", output_text(names[message["tool_call_id"]], text)
        elif message.get("tool_calls"):
            calls = message["tool_calls"]
            names.update((c["id"], c["function"]["name"]) for c in calls)
            made = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]
            text = calls_text(made)
        if role == "system" and out and out[-1]["role"] == "system":
            out[-1]["content"] = text + "\n\n" + out[-1]["content"]
        elif out and out[-1]["role"] == role:
            out[-1]["content"] += "\n\n" + text
        else:
            out.append({"role": role, "content": text})
    return out
