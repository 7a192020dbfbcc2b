// Server-sent events by fetch: EventSource cannot send a key.

import { Problem, request } from "./api.js";

const TERMINAL = new Set(["succeeded", "failed", "cancelled"]);
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

// Calls `onEvent({id, type, data})` for every event of a job from the first on, each once, over any
// number of connections, until its final state or until `signal`. `onConnection(up)` says when the
// line breaks and when it is back. Throws Problem when the service refuses.
export async function follow(jobId, { onEvent, onConnection = () => {}, signal }) {
  let last = 0;
  let pause = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    try {
      const response = await request("GET", `/v1/jobs/${jobId}/events`, {
        accept: "text/event-stream",
        headers: { "Last-Event-ID": String(last) },
        signal,
      });
      if (response.status === 204) return;
      onConnection(true);
      for await (const event of parse(response.body)) {
        last = event.id;
        pause = FIRST_PAUSE_MS;
        onEvent(event);
        if (event.type === "state" && TERMINAL.has(event.data.state)) return;
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      // 5xx and silence pass; what the service refuses it refuses again.
      if (error instanceof Problem && error.status !== 0 && error.status < 500) throw error;
    }
    if (signal.aborted) return;
    onConnection(false);
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

// Events of a text/event-stream body (WHATWG HTML section 9.2.6), as far as ours use it.
async function* parse(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      let end;
      while ((end = text.search(/\r?\n\r?\n/)) >= 0) {
        const block = text.slice(0, end);
        text = text.slice(end).replace(/^\r?\n\r?\n/, "");
        const event = one(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // broken already: nothing left to close
  }
}

function one(block) {
  const event = { id: 0, type: "message", data: null };
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon === 0) continue; // a comment: the line is alive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id") event.id = Number(value);
    else if (field === "event") event.type = value;
    else if (field === "data") data.push(value);
  }
  if (!data.length) return null;
  event.data = JSON.parse(data.join("\n"));
  return event;
}
