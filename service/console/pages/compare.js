// Two matrices of the same samples: where they differ, and how far apart they are as kernels.

import * as api from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { follow } from "../lib/events.js";
import * as format from "../lib/format.js";
import { go } from "../lib/router.js";
import { badge, facts, idLink, pageTitle, problemBox, section } from "../parts/basics.js";
import { heatMap } from "../parts/heat-map.js";
import { arraySource, differenceSource } from "../parts/heat-source.js";
import { kernelWords, matrixWords } from "../parts/pickers.js";

// name -> the analysis of the service, which numbers of its summary to show, and its words.
const ANALYSES = [
  { name: "kernel_alignment", title: "Alignment", about: "Cosine of the angle between the two; 1: equal up to a factor." },
  { name: "kernel_alignment", title: "Centred alignment (CKA)", about: "The same after both are centred.", parameters: { centred: true } },
  { name: "kernel_distance", title: "Kernel distance", about: "1 − alignment, exact also when it is small." },
];

export async function compare({ query, signal }) {
  const items = (await api.list("/v1/matrices?state=sealed", { signal })).filter((item) => item.arrays.length);
  const choices = items.flatMap((item) => item.arrays.filter((array) => array.shape.length <= 2).map((array) => ({
    value: `${item.id} ${array.name}`, item, array, words: `${array.name}: ${matrixWords(item)}`,
  })));
  const find = (name) => {
    const id = query.get(name);
    const array = query.get(`${name}_array`);
    return choices.find((choice) => choice.item.id === id && (!array || choice.array.name === array));
  };
  const [a, b] = [find("a"), find("b")];
  const pick = (name, chosen) => h("div", { class: "field" }, h("label", { for: `compare-${name}` }, name === "a" ? "First" : "Second"),
    h("select", { id: `compare-${name}` }, h("option", { value: "" }, "choose one"),
      choices.map((choice) => h("option", { value: choice.value, selected: choice === chosen }, choice.words))));
  const form = h("form", { class: "fields row" }, pick("a", a), pick("b", b), h("button", { type: "submit", class: "primary" }, "Compare"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const next = {};
    for (const name of ["a", "b"]) {
      const [id, array] = form.querySelector(`#compare-${name}`).value.split(" ");
      if (id) Object.assign(next, { [name]: id, [`${name}_array`]: array });
    }
    go(`/compare?${new URLSearchParams(next)}`);
  });
  return {
    title: "Compare",
    node: h("div", null, pageTitle("Compare two matrices"),
      section("Which", choices.length < 2 ? h("p", { class: "muted" }, "This needs two sealed arrays; there are fewer.") : form),
      a && b && difference(a, b, signal)),
  };
}

function difference(a, b, signal) {
  if (a.array.shape.join() !== b.array.shape.join()) {
    return h("div", { class: "problem", role: "alert" },
      h("p", null, `The arrays have the shapes ${format.shape(a.array.shape)} and ${format.shape(b.array.shape)}.`),
      h("p", null, "Compare kernels of the same samples."));
  }
  const sources = [a, b].map(({ item, array }) => arraySource(item.id, array));
  const symmetric = a.array.symmetric && b.array.symmetric;
  return h("div", { class: "columns wide-first" },
    h("div", null, section("First minus second", heatMap({ source: differenceSource(...sources), name: "Difference of the two matrices", map: "diverging", signal }))),
    h("div", null,
      section("The two", facts([a, b].map(({ item, array }, index) => [
        index ? "second" : "first",
        h("div", null, `${array.name}: `, kernelWords(item.provenance.request?.kernel) ?? item.kind, h("br"), idLink(item.id)),
      ]))),
      section("As kernels", symmetric
        ? ANALYSES.map((analysis) => analysisRow(analysis, a, b, signal))
        : h("p", { class: "muted" }, "Alignment and distance are of symmetric Gram matrices."))));
}

// An analysis is a job like any other: it runs when it is asked for, and once.
function analysisRow({ name, title, about, parameters }, a, b, signal) {
  const out = h("div", { "aria-live": "polite" });
  const button = h("button", { type: "button", "aria-label": `Compute ${title}` }, "Compute");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const task = {
        type: "analysis",
        analysis: { name, matrix: a.item.id, array: a.array.name, other: b.item.id, other_array: b.array.name, ...parameters },
      };
      const job = await api.post("/v1/jobs", { task }, signal);
      replace(out, badge(job.state), " ", idLink(job.id));
      await follow(job.id, { signal, onEvent: ({ type, data }) => type === "state" && replace(out, badge(data.state), " ", idLink(job.id)) });
      const { summary } = await api.get(`/v1/jobs/${job.id}/result`, signal);
      const numbers = Object.entries(summary).filter(([, value]) => typeof value === "number");
      replace(out, facts(numbers.map(([key, value]) => [format.label(key), format.quantity(key, value)])), h("p", { class: "hint" }, "From ", idLink(job.id), "."));
    } catch (error) {
      if (error.name !== "AbortError") replace(out, problemBox(error));
      button.disabled = false;
    }
  });
  return h("div", { class: "analysis" }, h("h3", null, title), h("p", { class: "hint" }, about), button, out);
}
