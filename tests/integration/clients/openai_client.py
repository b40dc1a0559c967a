"""The official Python client against a running gateway: openai_client.py BASE_URL [API_KEY] [--overload].

BASE_URL is like http://127.0.0.1:8080/v1. --overload also fills the queue, which takes a gateway with a small one.
"""
import concurrent.futures
import sys

import openai

arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
base_url = arguments[0]
key = arguments[1] if len(arguments) > 1 else "none"
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=240)
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello, who are you?"}]


def expect(kind, call, **fields):
    try:
        call()
    except kind as error:
        for name, value in fields.items():
            assert getattr(error, name) == value, f"{name}: {getattr(error, name)!r}, expected {value!r}: {error}"
        return
    raise AssertionError(f"expected {kind.__name__}")


def check_models():
    models = client.models.list().data
    assert len(models) == 1, models
    assert client.models.retrieve(models[0].id).id == models[0].id
    expect(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"), code="model_not_found")
    return models[0].id


def check_chat(model):
    options = dict(model=model, messages=MESSAGES, max_tokens=12, temperature=0, seed=1)
    whole = client.chat.completions.create(**options, logprobs=True, top_logprobs=3)
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    assert whole.usage.completion_tokens <= 12
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert len(choice.logprobs.content) == whole.usage.completion_tokens
    for entry in choice.logprobs.content:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob >= entry.top_logprobs[2].logprob
    # A random model may cut a character short at the end.
    raw = b"".join(bytes(e.bytes) for e in choice.logprobs.content)
    assert raw.decode(errors="replace") == choice.message.content or "\ufffd" in choice.message.content

    text, usage, reasons = "", None, []
    for chunk in client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        if chunk.usage:
            usage = chunk.usage
        for part in chunk.choices:
            text += part.delta.content or ""
            reasons.append(part.finish_reason)
    assert text == choice.message.content, (text, choice.message.content)
    assert usage == whole.usage, (usage, whole.usage)
    assert reasons[-1] == choice.finish_reason and not any(reasons[:-1])

    several = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=4, n=3, seed=7)
    assert [c.index for c in several.choices] == [0, 1, 2]
    again = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=4, n=3, seed=7)
    assert [c.message.content for c in again.choices] == [c.message.content for c in several.choices]


def check_completions(model):
    options = dict(model=model, prompt="The creature opened the window", temperature=0)
    whole = client.completions.create(**options, max_tokens=8, echo=True, logprobs=5)
    choice = whole.choices[0]
    assert choice.text.startswith(options["prompt"])
    logprobs = choice.logprobs
    count = whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == count
    assert logprobs.token_logprobs[0] is None and all(l <= 0 for l in logprobs.token_logprobs[1:])
    assert all(3 <= len(top) <= 6 for top in logprobs.top_logprobs[1:])
    assert logprobs.text_offset == sorted(logprobs.text_offset)

    scored = client.completions.create(**options, max_tokens=0, echo=True, logprobs=0,
                                       extra_body={"return_tokens_as_token_ids": True})
    ids = [int(t.removeprefix("token_id:")) for t in scored.choices[0].logprobs.tokens]
    assert len(ids) == whole.usage.prompt_tokens
    by_ids = client.completions.create(model=model, prompt=ids, max_tokens=8, temperature=0, echo=True)
    assert by_ids.choices[0].text == choice.text, (by_ids.choices[0].text, choice.text)

    text = "".join(c.text for chunk in client.completions.create(**options, max_tokens=8, stream=True)
                   for c in chunk.choices)
    assert options["prompt"] + text == choice.text
    if len(text) > 3:
        stopped = client.completions.create(**options, max_tokens=8, stop=text[2:4]).choices[0]
        assert stopped.finish_reason == "stop"
        assert stopped.text == text[: text.find(text[2:4])], (stopped.text, text)
    assert len(client.completions.create(model=model, prompt=["a", "b"], max_tokens=2).choices) == 2


def check_errors(model):
    chat = client.chat.completions.create
    expect(openai.NotFoundError, lambda: chat(model="no-such-model", messages=MESSAGES), code="model_not_found")
    expect(openai.BadRequestError, lambda: chat(model=model, messages=MESSAGES, temperature=3), param="temperature")
    expect(openai.BadRequestError, lambda: chat(model=model, messages=[]), param="messages")
    expect(openai.BadRequestError, lambda: chat(model=model, messages=MESSAGES, extra_body={"frobnicate": 1}), param="frobnicate")
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object", "not": {}}}}
    expect(openai.BadRequestError, lambda: chat(model=model, messages=MESSAGES, tools=[tool]), param="tools[0].function.parameters")
    image = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]
    expect(openai.BadRequestError, lambda: chat(model=model, messages=[{"role": "user", "content": image}]),
           param="messages[0].content[0].type")
    expect(openai.BadRequestError, lambda: client.completions.create(model=model, prompt="x" * 3_000_000),
           code="context_length_exceeded")


def check_leaving(model):
    """A client that stops reading frees its place; the next request works."""
    stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    assert client.completions.create(model=model, prompt="a", max_tokens=1).choices


def check_overload(model):
    def ask(_):
        try:
            client.completions.create(model=model, prompt="a", max_tokens=128, extra_body={"ignore_eos": True})
            return "answered"
        except openai.RateLimitError as error:
            assert error.code == "rate_limit_exceeded" and error.response.headers["retry-after"]
            return "refused"

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        outcomes = list(pool.map(ask, range(32)))
    assert {"answered", "refused"} == set(outcomes), outcomes


model = check_models()
check_chat(model)
check_completions(model)
check_errors(model)
check_leaving(model)
if "--overload" in sys.argv:
    check_overload(model)
print(f"openai {openai.__version__} for Python: passed")
