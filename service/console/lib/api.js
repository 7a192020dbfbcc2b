// The API over fetch: keys, problem documents as errors, nothing else.

const KEY = "gramian-key";

// A refusal of the service (RFC 9457), or that nobody answers.
export class Problem extends Error {
  constructor(document) {
    super(document.detail);
    this.name = "Problem";
    this.kind = document.kind;
    this.status = document.status;
    this.advice = document.advice ?? "";
    this.document = document;
  }
}

// The key lives as long as the tab: not in localStorage, where it would outlive the session.
export function key() {
  return sessionStorage.getItem(KEY);
}

export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

export async function request(method, path, { json, form, accept, headers, signal } = {}) {
  const all = { Accept: accept ?? "application/json", ...headers };
  const held = key();
  if (held) all.Authorization = `Bearer ${held}`;
  let body = form;
  if (json !== undefined) {
    all["Content-Type"] = "application/json";
    body = JSON.stringify(json);
  }
  let response;
  try {
    response = await fetch(path, { method, headers: all, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      kind: "service-unreachable",
      status: 0,
      detail: "The service does not answer.",
      advice: "See whether `gramian serve` still runs; this page tries again by itself.",
    });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const text = await response.text();
  let document = {};
  try {
    document = JSON.parse(text);
  } catch {
    // Not ours: a proxy in between.
  }
  const problem = new Problem({
    ...document,
    kind: document.kind ?? "unknown",
    status: response.status,
    detail: document.detail ?? `The answer was ${response.status} ${response.statusText}.`,
    advice: document.advice,
  });
  if (response.status === 401) dispatchEvent(new CustomEvent("gramian:unauthorized"));
  return problem;
}

export async function get(path, signal) {
  return (await request("GET", path, { signal })).json();
}

export async function post(path, json, signal) {
  return (await request("POST", path, { json, signal })).json();
}

export async function remove(path) {
  const response = await request("DELETE", path);
  return response.status === 204 ? null : response.json();
}

// All pages of a list, newest first, up to `limit` items.
export async function list(path, { limit = 100, signal } = {}) {
  const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=${limit}`, signal);
  return page.items;
}

const remembered = new Map();

// What does not change while the service runs: the catalogue, the document of the API.
export function once(path) {
  if (!remembered.has(path)) {
    const answer = get(path);
    answer.catch(() => remembered.delete(path));
    remembered.set(path, answer);
  }
  return remembered.get(path);
}

export function forget() {
  remembered.clear();
}
