// What a job would cost, as the service projects it.

import { Problem } from "../lib/api.js";
import { h } from "../lib/dom.js";
import * as format from "../lib/format.js";
import { facts, problemBox } from "./basics.js";

const FIRST = ["seconds", "workers", "tiles", "tile_rows", "bytes_written", "peak_bytes_per_worker", "representation"];
const BASIS = {
  measured: "from tiles of this kernel measured on this service",
  model: "from the cost model; nothing like it was measured here yet",
};

export function estimateFacts(estimate) {
  const names = [...FIRST, ...Object.keys(estimate).filter((name) => !FIRST.includes(name) && name !== "basis")];
  return facts(
    names
      .filter((name) => name in estimate)
      .map((name) => [format.label(name), format.quantity(name, estimate[name])]),
  );
}

export function basisWords(estimate) {
  return BASIS[estimate.basis] ?? null;
}

// `answer`: of POST /v1/estimates.
export function estimateBox(answer) {
  const { estimate, refusal, admitted } = answer;
  return h(
    "div",
    { class: "estimate" },
    h("p", { class: "big" }, format.quantity("seconds", estimate.seconds) ?? "unknown",
      h("span", { class: "muted" }, ` on ${estimate.workers ?? "the"} worker${estimate.workers === 1 ? "" : "s"}`)),
    basisWords(estimate) && h("p", { class: "hint" }, `Time ${basisWords(estimate)}.`),
    estimateFacts(Object.fromEntries(Object.entries(estimate).filter(([name]) => !["seconds", "workers"].includes(name)))),
    admitted ? h("p", { class: "good" }, "The service would take this job now.") : problemBox(new Problem(refusal)),
  );
}
