// One Node client library against a running gateway: node node_clients.mjs NAME ROOT_URL MODEL [API_KEY]. Prints what
// python_clients.py prints.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [name, root, model, apiKey = "none"] = process.argv.slice(2);
const baseURL = `${root}/v1`;
const question = "What is 12 + 30?";
// What the tool is for: a model that must call it for something else makes up its arguments.
const asksForTool = "What is the weather in Rome?";
const schema = { type: "object", properties: { answer: { type: "integer" } }, required: ["answer"], additionalProperties: false };
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const some = (text) => assert.ok(typeof text === "string" && text.trim(), `expected a text, found ${JSON.stringify(text)}`);

async function openai() {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 240_000 });
  const base = { model, messages: [{ role: "user", content: question }], max_tokens: 32, temperature: 0 };
  const tool = { type: "function", function: { name: "weather", description: "The weather of a city.", parameters } };
  return {
    chat: async () => some((await client.chat.completions.create(base)).choices[0].message.content),
    stream: async () => some(await (async () => {
      let text = "";
      for await (const chunk of await client.chat.completions.create({ ...base, stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
      return text;
    })()),
    tools: async () => {
      const { choices } = await client.chat.completions.create({ ...base, messages: [{ role: "user", content: asksForTool }], max_tokens: 256, tools: [tool], tool_choice: "required" });
      assert.equal(choices[0].message.tool_calls[0].function.name, "weather");
    },
    structured: async () => {
      const response_format = { type: "json_schema", json_schema: { name: "a", schema, strict: true } };
      const { choices } = await client.chat.completions.create({ ...base, max_tokens: 256, response_format });
      assert.equal(typeof JSON.parse(choices[0].message.content).answer, "number");
    },
    responses: async () => some((await client.responses.create({ model, input: question, max_output_tokens: 32 })).output_text),
    "responses stream": async () => {
      let text = "";
      for await (const event of await client.responses.create({ model, input: question, max_output_tokens: 32, stream: true })) {
        if (event.type === "response.output_text.delta") text += event.delta;
      }
      some(text);
    },
  };
}

async function ai() {
  const { generateText, streamText, tool, jsonSchema, Output } = await import("ai");
  const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
  const provider = createOpenAICompatible({ name: "tandem", baseURL, apiKey, supportsStructuredOutputs: true, includeUsage: true });
  const base = { model: provider(model), prompt: question, maxOutputTokens: 32, maxRetries: 0 };
  const weather = tool({ description: "The weather of a city.", inputSchema: jsonSchema(parameters), execute: async ({ city }) => `sunny in ${city}` });
  return {
    chat: async () => some((await generateText(base)).text),
    stream: async () => {
      let failure;
      const result = streamText({ ...base, onError: ({ error }) => { failure = error; } });
      let text = "";
      for await (const part of result.textStream) text += part;
      if (failure) throw failure;
      some(text);
    },
    tools: async () => {
      const { toolCalls } = await generateText({ ...base, prompt: asksForTool, maxOutputTokens: 256, tools: { weather }, toolChoice: "required" });
      assert.equal(toolCalls[0].toolName, "weather");
    },
    structured: async () => {
      const { output } = await generateText({ ...base, maxOutputTokens: 256, output: Output.object({ schema: jsonSchema(schema) }) });
      assert.equal(typeof output.answer, "number");
    },
  };
}

const checks = {};
for (const [check, run] of Object.entries(await { openai, ai }[name]())) {
  try {
    await run();
    checks[check] = "passed";
  } catch (error) {
    const text = `${error?.stack ?? error} ${error?.responseBody ?? ""} ${error?.cause ?? ""}`;
    checks[check] = /is not supported|only text is supported/.test(text) ? "refused" : `FAILED: ${text.slice(0, 1500)}`;
  }
}
const { version } = createRequire(import.meta.url)(`./node_modules/${name}/package.json`);
console.log(JSON.stringify({ version, checks }));
