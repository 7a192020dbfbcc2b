// Choosing among what is stored: data sets and sealed matrices, for forms made from schemas.

import { h } from "../lib/dom.js";
import * as format from "../lib/format.js";

export function datasetWords(dataset) {
  const targets = dataset.targets ? ", with targets" : "";
  return `${dataset.name ?? format.shortId(dataset.id)} · ${format.shape(dataset.shape)} ${dataset.dtype}${targets}`;
}

export function kernelWords(kernel) {
  if (!kernel) return null;
  if (typeof kernel === "string") return kernel;
  if (kernel.preset) {
    const rest = Object.entries(kernel).filter(([name]) => name !== "preset");
    return [kernel.preset, ...rest.map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`)].join(", ");
  }
  const words = (kernel.layers ?? []).map((layer) => layer.fn ?? layer.op);
  const short = withoutRepeats(words);
  return short.length > 8 ? `${short.slice(0, 7).join(" → ")} → … (${words.length} layers)` : short.join(" → ");
}

// `a → b → a → b → c` as `2 × (a → b) → c`.
function withoutRepeats(words) {
  for (let period = 1; period <= 4; period += 1) {
    const first = words.slice(0, period).join();
    let times = 1;
    while (words.slice(times * period, (times + 1) * period).join() === first && first) times += 1;
    if (times * period >= 4 && times > 1) {
      const block = words.slice(0, period).join(" → ");
      return [`${times} × (${block})`, ...words.slice(times * period)];
    }
  }
  return words;
}

export function matrixWords(matrix) {
  const request = matrix.provenance.request ?? {};
  const what = kernelWords(request.kernel) ?? request.task ?? matrix.kind;
  const shape = matrix.arrays[0] ? format.shape(matrix.arrays[0].shape) : "";
  return `${what} · ${shape} · ${format.shortId(matrix.id)}`;
}

// The `widgets` of a schema form: a select wherever an id of a data set or a matrix is asked for.
export function idWidgets(datasets, matrices) {
  return {
    "^ds-[0-9a-f]{32}$": (field) => picker(field, datasets, datasetWords),
    "^mx-[0-9a-f]{32}$": (field) => picker(field, matrices, matrixWords),
  };
}

function picker({ id, required, value }, items, words) {
  const known = !value || items.some((item) => item.id === value);
  const input = h(
    "select",
    { id, required },
    h("option", { value: "" }, required ? "choose one" : "none"),
    !known && h("option", { value, selected: true }, value),
    items.map((item) => h("option", { value: item.id, selected: item.id === value }, words(item))),
  );
  return { input, node: input, wide: true, read: () => input.value || undefined };
}
