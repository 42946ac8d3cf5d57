// Calls @google/genai on behalf of a test: the protocol of genai_driver.py, over the package installed in the folder
// that the first argument names.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const TIMEOUT_MS = 30_000;

const root = process.argv[2];
const { resolve } = createRequire(join(root, "package.json"));
const { GoogleGenAI } = await import(pathToFileURL(resolve("@google/genai")));
const { version } = JSON.parse(readFileSync(join(root, "node_modules/@google/genai/package.json")));

// Standard output belongs to the protocol.
for (const level of ["log", "info", "debug"]) console[level] = console.error;

const clients = new Map();

function clientFor({ base_url, api_key, headers }) {
  const key = JSON.stringify([base_url, api_key, headers]);
  if (!clients.has(key)) {
    const httpOptions = { baseUrl: base_url, headers, timeout: TIMEOUT_MS };
    clients.set(key, new GoogleGenAI({ apiKey: api_key, httpOptions }));
  }
  return clients.get(key);
}

// `httpOptions.retryOptions` does not reach the interactions resource of this SDK; the option of each call does.
function callOptions(attempts) {
  return {
    retries: {
      strategy: "attempt-count-backoff",
      backoff: { initialInterval: 500, maxInterval: 8000, exponent: 2, maxElapsedTime: 30000 },
      retryConnectionErrors: true,
      maxRetries: Math.max(attempts - 1, 0),
    },
  };
}

function start({ method, args, attempts }, { interactions }) {
  const options = callOptions(attempts);
  if (method === "create") return interactions.create(args, options);
  const { id, ...params } = args;
  return interactions[method](id, params, options);
}

function describe(error) {
  return {
    name: error.constructor.name,
    status: error.status ?? null,
    message: error.message,
    retry_after: error.headers?.get?.("retry-after") ?? null,
  };
}

async function perform(call) {
  const outcome = {};
  try {
    const value = await start(call, clientFor(call));
    if (!call.args.stream) return { value: value ?? null };
    outcome.events = [];
    for await (const event of value) outcome.events.push(event);
  } catch (error) {
    outcome.error = describe(error);
  }
  return outcome;
}

const answer = (line) => process.stdout.write(JSON.stringify(line) + "\n");

answer({ version });
for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  answer(await (Array.isArray(asked) ? Promise.all(asked.map(perform)) : perform(asked)));
}
