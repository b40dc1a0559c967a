"""One Python client library against a running gateway: python_clients.py NAME ROOT_URL MODEL [API_KEY].

ROOT_URL is like http://127.0.0.1:8080. Prints one line of JSON: {"version": ..., "checks": {"chat": "passed", ...}}. A check is
"passed"; "refused", where the server says that it does not support what was asked for (unsupported_parameter); or "FAILED: why".
"""
import asyncio
import importlib.metadata
import json
import os
import sys
import traceback

NAME, ROOT, MODEL = sys.argv[1:4]
KEY = sys.argv[4] if len(sys.argv) > 4 else "none"
V1 = ROOT + "/v1"
QUESTION = "What is 12 + 30?"
# What the tool is for: a model that must call it for something else makes up its arguments.
ASKS_FOR_TOOL = "What is the weather in Rome?"
TOOL_MESSAGES = [{"role": "user", "content": ASKS_FOR_TOOL}]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"], "additionalProperties": False}
LIMIT = 32
os.environ.update(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=V1, OPENAI_AGENTS_DISABLE_TRACING="1", LITELLM_LOCAL_MODEL_COST_MAP="True")


def weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: The city's name.
    """
    return f"It is sunny in {city}."


TOOL = {"name": "weather", "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


def some(text):
    assert isinstance(text, str) and text.strip(), f"expected a text, found {text!r}"


def openai():
    from openai import OpenAI
    client = OpenAI(base_url=V1, api_key=KEY, max_retries=0, timeout=240)
    messages = [{"role": "user", "content": QUESTION}]
    base = dict(model=MODEL, messages=messages, max_tokens=LIMIT, temperature=0)
    tool = {"type": "function", "function": TOOL}

    def stream():
        some("".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(**base, stream=True) if c.choices))

    def tools():
        choice = client.chat.completions.create(**{**base, "messages": TOOL_MESSAGES, "max_tokens": 256}, tools=[tool], tool_choice="required").choices[0]
        assert choice.finish_reason == "tool_calls" and choice.message.tool_calls[0].function.name == "weather", choice
        json.loads(choice.message.tool_calls[0].function.arguments)

    def structured():
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
        text = client.chat.completions.create(**{**base, "max_tokens": 256}, response_format=form).choices[0].message.content
        assert isinstance(json.loads(text)["answer"], int), text

    def embeddings():
        # The library asks for base64 and decodes it, unless it is told what to ask for.
        texts = ["The weather is nice.", "How nice the weather is."]
        default, plain = (client.embeddings.create(model=MODEL, input=texts, **more) for more in ({}, {"encoding_format": "float"}))
        assert [len(e.embedding) for e in default.data] == [len(e.embedding) for e in plain.data] and default.usage.prompt_tokens > 2
        for one, other in zip(default.data, plain.data):
            assert abs(sum(a * b for a, b in zip(one.embedding, other.embedding)) - 1) < 1e-3

    def responses():
        first = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=LIMIT)
        some(first.output_text)
        second = client.responses.create(model=MODEL, input="And then?", previous_response_id=first.id, max_output_tokens=LIMIT)
        assert second.usage.input_tokens > first.usage.input_tokens
        assert client.responses.retrieve(first.id).output_text == first.output_text
        client.responses.delete(first.id)

    def responses_stream():
        with client.responses.stream(model=MODEL, input=QUESTION, max_output_tokens=LIMIT) as events:
            text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
            assert events.get_final_response().output_text == text

    def responses_tools():
        flat = {"type": "function", "strict": False, **TOOL}
        output = client.responses.create(model=MODEL, input=ASKS_FOR_TOOL, tools=[flat], tool_choice="required").output
        assert any(o.type == "function_call" and o.name == "weather" for o in output), output
    return {"chat": lambda: some(client.chat.completions.create(**base).choices[0].message.content), "stream": stream,
            "tools": tools, "structured": structured, "embeddings": embeddings, "responses": responses,
            "responses stream": responses_stream,
            "responses tools": responses_tools}


def anthropic():
    from anthropic import Anthropic
    client = Anthropic(base_url=ROOT, api_key=KEY, max_retries=0, timeout=240)
    base = dict(model=MODEL, max_tokens=LIMIT, messages=[{"role": "user", "content": QUESTION}], system="Be brief.")
    tool = {"name": "weather", "description": TOOL["description"], "input_schema": TOOL["parameters"]}

    def stream():
        with client.messages.stream(**base) as events:
            text = "".join(events.text_stream)
            message = events.get_final_message()
        assert message.content[0].text == text and message.usage.output_tokens > 0

    def tools():
        message = client.messages.create(**{**base, "messages": TOOL_MESSAGES, "max_tokens": 256}, tools=[tool], tool_choice={"type": "any"})
        assert message.stop_reason == "tool_use" and message.content[-1].name == "weather", message

    def structured():
        message = client.messages.create(**{**base, "max_tokens": 256},
                                         extra_body={"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}})
        assert isinstance(json.loads(message.content[0].text)["answer"], int), message

    def count():
        counted = client.messages.count_tokens(model=MODEL, messages=base["messages"], system=base["system"]).input_tokens
        assert counted == client.messages.create(**base).usage.input_tokens > 0
    return {"chat": lambda: some(client.messages.create(**base).content[0].text), "stream": stream, "tools": tools,
            "structured": structured, "count_tokens": count, "models": lambda: some(client.models.list().data[0].id)}


def ollama():
    from ollama import Client
    client = Client(host=ROOT, headers={"Authorization": f"Bearer {KEY}"}, timeout=240)
    messages = [{"role": "user", "content": QUESTION}]
    options = {"num_predict": LIMIT, "temperature": 0, "num_ctx": 2048}

    def stream():
        parts = list(client.chat(model=MODEL, messages=messages, options=options, stream=True))
        some("".join(p.message.content for p in parts))
        assert parts[-1].done and parts[-1].eval_count > 0

    def tools():
        message = client.chat(model=MODEL, messages=TOOL_MESSAGES, tools=[weather]).message
        some(message.content or message.tool_calls[0].function.name)

    def structured():
        text = client.chat(model=MODEL, messages=messages, format=SCHEMA, options={"temperature": 0}).message.content
        assert isinstance(json.loads(text)["answer"], int), text

    def embeddings():
        one, two = client.embed(model=MODEL, input=["Hello", "World"]).embeddings
        assert len(one) == len(two) == len(client.embeddings(model=MODEL, prompt="Hello").embedding) and one != two

    def listing():
        assert client.list().models[0].model == MODEL and client.ps().models[0].model == MODEL
        assert client.show(MODEL).modelinfo["gemma3.context_length"] > 0
    return {"chat": lambda: some(client.chat(model=MODEL, messages=messages, options=options).message.content), "stream": stream,
            "generate": lambda: some(client.generate(model=MODEL, prompt=QUESTION, options=options).response),
            "tools": tools, "structured": structured, "list, show, ps": listing, "embeddings": embeddings}


def langchain_openai():
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from pydantic import BaseModel

    class Answer(BaseModel):
        answer: int
    model = ChatOpenAI(model=MODEL, base_url=V1, api_key=KEY, max_tokens=LIMIT, temperature=0, max_retries=0)
    # Else it sends ids of another model's tokens.
    embeddings = OpenAIEmbeddings(model=MODEL, base_url=V1, api_key=KEY, max_retries=0, check_embedding_ctx_length=False)

    def embed():
        one, two = embeddings.embed_documents(["Hello", "World"])
        assert one != two and len(one) == len(embeddings.embed_query("Hello"))
    return {"chat": lambda: some(model.invoke(QUESTION).content),
            "stream": lambda: some("".join(part.content for part in model.stream(QUESTION))),
            "tools": lambda: some(str(model.bind_tools([tool(weather)], tool_choice="required").invoke(ASKS_FOR_TOOL).tool_calls[0]["name"])),
            "structured": lambda: some(str(model.with_structured_output(Answer, method="json_schema").invoke(QUESTION).answer)),
            "embeddings": embed}


def llama_index():
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike
    model = OpenAILike(model=MODEL, api_base=V1, api_key=KEY, is_chat_model=True, is_function_calling_model=True, max_tokens=LIMIT,
                       max_retries=0, context_window=2048)
    messages = [ChatMessage(role="user", content=QUESTION)]

    def tools():
        response = model.chat_with_tools([FunctionTool.from_defaults(weather)], user_msg=ASKS_FOR_TOOL, tool_required=True)
        assert model.get_tool_calls_from_response(response)[0].tool_name == "weather"
    return {"chat": lambda: some(model.chat(messages).message.content),
            "stream": lambda: some("".join(part.delta or "" for part in model.stream_chat(messages))), "tools": tools}


def instructor():
    import instructor as library
    from openai import OpenAI
    from pydantic import BaseModel

    class Answer(BaseModel):
        answer: int
    client = OpenAI(base_url=V1, api_key=KEY, max_retries=0)

    def ask(mode):
        patched = library.from_openai(client, mode=mode)
        answer = patched.chat.completions.create(model=MODEL, response_model=Answer, max_retries=0, max_tokens=256,
                                                 messages=[{"role": "user", "content": QUESTION}])
        assert isinstance(answer.answer, int)
    return {"tools": lambda: ask(library.Mode.TOOLS), "structured": lambda: ask(library.Mode.JSON_SCHEMA)}


def pydantic_ai():
    from pydantic import BaseModel
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    class Answer(BaseModel):
        answer: int
    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=V1, api_key=KEY))
    settings = {"max_tokens": LIMIT, "temperature": 0}

    async def stream():
        async with Agent(model, model_settings=settings).run_stream(QUESTION) as result:
            some(await result.get_output())
    return {"chat": lambda: some(Agent(model, model_settings=settings).run_sync(QUESTION).output),
            "stream": lambda: asyncio.run(stream()),
            "tools": lambda: some(Agent(model, tools=[weather], model_settings=settings).run_sync(ASKS_FOR_TOOL).output),
            "structured": lambda: some(str(Agent(model, output_type=NativeOutput(Answer)).run_sync(QUESTION).output.answer))}


def litellm():
    import litellm as library
    library.suppress_debug_info = True
    base = dict(model=f"openai/{MODEL}", api_base=V1, api_key=KEY, messages=[{"role": "user", "content": QUESTION}], max_tokens=LIMIT,
                num_retries=0)
    tool = {"type": "function", "function": TOOL}

    def stream():
        some("".join(c.choices[0].delta.content or "" for c in library.completion(**base, stream=True)))

    def tools():
        calls = library.completion(**{**base, "messages": TOOL_MESSAGES, "max_tokens": 256}, tools=[tool], tool_choice="required").choices[0].message.tool_calls
        assert calls[0].function.name == "weather"

    def structured():
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
        text = library.completion(**{**base, "max_tokens": 256}, response_format=form).choices[0].message.content
        assert isinstance(json.loads(text)["answer"], int)
    return {"chat": lambda: some(library.completion(**base).choices[0].message.content), "stream": stream, "tools": tools,
            "structured": structured}


def llm():
    import llm as library
    from llm.default_plugins.openai_models import Chat
    model = Chat(MODEL, api_base=V1, supports_schema=True, supports_tools=True)
    model.key = KEY
    return {"chat": lambda: some(model.prompt(QUESTION, stream=False, max_tokens=LIMIT).text()),
            "stream": lambda: some("".join(model.prompt(QUESTION, max_tokens=LIMIT))),
            "tools": lambda: some(model.chain(ASKS_FOR_TOOL, tools=[library.Tool.function(weather)], stream=False).text()),
            "structured": lambda: json.loads(model.prompt(QUESTION, schema=SCHEMA, stream=False).text())["answer"]}


def openai_agents():
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
    from openai import AsyncOpenAI
    from pydantic import BaseModel

    class Answer(BaseModel):
        answer: int
    settings = ModelSettings(max_tokens=LIMIT)

    def agent(kind=OpenAIChatCompletionsModel, **more):
        # Every run has an event loop of its own, and a client belongs to one.
        client = AsyncOpenAI(base_url=V1, api_key=KEY, max_retries=0)
        return Agent(name="a", instructions="Be brief.", model=kind(model=MODEL, openai_client=client), model_settings=settings, **more)

    async def stream():
        result = Runner.run_streamed(agent(), QUESTION)
        async for _ in result.stream_events():
            pass
        some(result.final_output)

    def run(which, question=QUESTION):
        return asyncio.run(Runner.run(which, question)).final_output
    return {"chat": lambda: some(run(agent())), "stream": lambda: asyncio.run(stream()),
            "responses": lambda: some(run(agent(OpenAIResponsesModel))),
            "tools": lambda: some(run(agent(tools=[function_tool(weather)]), ASKS_FOR_TOOL)),
            "structured": lambda: some(str(run(agent(output_type=Answer)).answer))}


def smolagents():
    from smolagents import OpenAIServerModel
    model = OpenAIServerModel(model_id=MODEL, api_base=V1, api_key=KEY, max_tokens=LIMIT)
    messages = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}

    def tools():
        from smolagents import tool
        some(model.generate(TOOL_MESSAGES, tools_to_call_from=[tool(weather)]).tool_calls[0].function.name)
    return {"chat": lambda: some(model.generate(messages).content),
            "stream": lambda: some("".join(part.content or "" for part in model.generate_stream(messages))), "tools": tools,
            "structured": lambda: json.loads(model.generate(messages, response_format=form).content)["answer"]}


CLIENTS = {"openai": (openai, "openai"), "anthropic": (anthropic, "anthropic"), "ollama": (ollama, "ollama"),
           "langchain-openai": (langchain_openai, "langchain-openai"), "llama-index": (llama_index, "llama-index-llms-openai-like"),
           "instructor": (instructor, "instructor"), "pydantic-ai": (pydantic_ai, "pydantic-ai-slim"), "litellm": (litellm, "litellm"),
           "llm": (llm, "llm"), "openai-agents": (openai_agents, "openai-agents"), "smolagents": (smolagents, "smolagents")}


def outcome(check):
    try:
        check()
    except Exception as error:  # noqa: BLE001: whatever a library raises is the outcome
        text = "".join(traceback.format_exception(error))
        return "refused" if "is not supported" in text or "only text is supported" in text else f"FAILED: {text[-1500:]}"
    return "passed"


def main():
    make, package = CLIENTS[NAME]
    result = {"version": importlib.metadata.version(package), "checks": {name: outcome(check) for name, check in make().items()}}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
