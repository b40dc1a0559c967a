// The official Node client against a running gateway: node openai_client.mjs BASE_URL [API_KEY].
import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, apiKey = "none"] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 240_000 });
const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: [{ type: "text", text: "Hello, who are you?" }] },
];

const models = await client.models.list();
assert.equal(models.data.length, 1);
const model = models.data[0].id;
assert.equal((await client.models.retrieve(model)).id, model);

const options = { model, messages, max_tokens: 12, temperature: 0, seed: 1 };
const whole = await client.chat.completions.create({ ...options, logprobs: true, top_logprobs: 2 });
const choice = whole.choices[0];
assert.equal(choice.message.role, "assistant");
assert.ok(["stop", "length"].includes(choice.finish_reason));
assert.equal(choice.logprobs.content.length, whole.usage.completion_tokens);

let text = "";
let usage = null;
for await (const chunk of await client.chat.completions.create({
  ...options,
  stream: true,
  stream_options: { include_usage: true },
})) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, choice.message.content);
assert.deepEqual(usage, whole.usage);

const prompt = "The creature opened the window";
const completion = await client.completions.create({
  model, prompt, max_tokens: 4, temperature: 0, echo: true, logprobs: 3,
});
assert.ok(completion.choices[0].text.startsWith(prompt));
assert.equal(completion.choices[0].logprobs.token_logprobs[0], null);
let streamed = "";
for await (const chunk of await client.completions.create({
  model, prompt, max_tokens: 4, temperature: 0, stream: true,
})) {
  streamed += chunk.choices[0]?.text ?? "";
}
assert.equal(prompt + streamed, completion.choices[0].text);

await assert.rejects(
  client.chat.completions.create({ model: "no-such-model", messages }),
  (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
await assert.rejects(
  client.chat.completions.create({ model, messages, top_p: 2 }),
  (error) => error instanceof OpenAI.BadRequestError && error.param === "top_p");
await assert.rejects(
  client.completions.create({ model, prompt: "x".repeat(3_000_000) }),
  (error) => error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded");

// Leaving a stream frees its place; the next request works.
const leaving = await client.chat.completions.create({ model, messages, stream: true, ignore_eos: true });
for await (const chunk of leaving) {
  if (chunk) break;
}
assert.ok((await client.completions.create({ model, prompt: "a", max_tokens: 1 })).choices.length);
console.log("openai for Node: passed");
