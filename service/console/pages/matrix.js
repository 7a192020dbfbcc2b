// One matrix: its picture down to single entries, its numbers, where it came from.

import * as api from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import * as format from "../lib/format.js";
import { go } from "../lib/router.js";
import { badge, confirmButton, facts, idLink, json, pageTitle, problemBox, section } from "../parts/basics.js";
import { histogram, lineChart } from "../parts/chart.js";
import { heatMap } from "../parts/heat-map.js";
import { arraySource } from "../parts/heat-source.js";
import { kernelWords } from "../parts/pickers.js";
import { resultView } from "../parts/result.js";
import { snippets } from "../parts/snippets.js";

export async function matrix({ params, query, signal }) {
  const found = await api.get(`/v1/matrices/${params.id}`, signal);
  const array = found.arrays.find((one) => one.name === query.get("array")) ?? found.arrays[0];
  const message = h("div");
  const request = found.provenance.request ?? {};
  const sealed = found.state === "sealed";
  const gram = sealed && array?.symmetric;
  const title = kernelWords(request.kernel) ?? request.task ?? found.kind;

  const remove = confirmButton("Delete", "Delete for good?", async () => {
    try {
      await api.remove(`/v1/matrices/${found.id}`);
      go("/matrices");
    } catch (error) {
      replace(message, problemBox(error));
    }
  });
  const spectrum = h("button", { type: "button" }, "Compute the spectrum");
  spectrum.addEventListener("click", async () => {
    try {
      const job = await api.post("/v1/jobs", { task: { type: "spectrum", matrix: found.id, array: array.name } });
      go(`/jobs/${job.id}`);
    } catch (error) {
      replace(message, problemBox(error));
    }
  });

  const view = sealed && array
    ? heatMap({ source: arraySource(found.id, array), name: `${array.name} of ${found.id}`, signal })
    : h("p", { class: "muted" }, "The matrix is not complete: it can be looked at when its job has ended.");
  const statistics = h("div");
  const curve = h("div");
  if (sealed && array) {
    fillIn(statistics, statisticsView(found.id, array, signal));
    if (array.symmetric) fillIn(curve, spectrumView(found.id, array, signal));
  }

  return {
    title: `Matrix ${format.shortId(found.id)}`,
    node: h("div", null,
      pageTitle(title,
        gram && h("a", { class: "button primary", href: `#/new?type=solve&matrix=${found.id}&array=${array.name}` }, "Solve with it"),
        gram && spectrum,
        sealed && h("a", { class: "button", href: `#/compare?a=${found.id}` }, "Compare"),
        remove),
      message,
      found.arrays.length > 1 && arrayChoice(found, array),
      h("div", { class: "columns wide-first" },
        h("div", null, section(array ? `${array.name}, ${format.shape(array.shape)}` : "Arrays", view), curve),
        h("div", null, statistics,
          section("About", facts([
            ["id", h("span", { class: "mono wrap" }, found.id)],
            ["state", badge(found.state)],
            ["kind", found.kind],
            ["type", array?.dtype],
            ["tiles", array && `${format.shape(array.chunk_shape)} entries each`],
            ["symmetric", array && (array.symmetric ? "yes, stored once" : "no")],
            ["size", found.stored_bytes === null ? null : format.bytes(found.stored_bytes)],
            ...["x1", "x2", "matrix", "other", "cross", "solution", "targets"].filter((name) => request[name]).map((name) => [name, idLink(request[name])]),
            ["digest", found.digest && h("span", { class: "mono wrap" }, found.digest)],
            ["begun", format.time(found.created_at)],
            ["sealed", found.sealed_at && format.time(found.sealed_at)],
          ]),
          request.kernel && h("details", null, h("summary", null, "Kernel"), json(request.kernel, "The kernel")),
          h("details", null, h("summary", null, "Provenance"), json(found.provenance, "Provenance"))))),
      sealed && array && section("Open it elsewhere", h("div", { class: "snippets" }, snippets(found, array)))),
  };
}

function arrayChoice(found, array) {
  return h("nav", { "aria-label": "Arrays", class: "tabs" }, found.arrays.map((one) =>
    h("a", { href: `#/matrices/${found.id}?array=${one.name}`, "aria-current": one.name === array.name ? "page" : null }, one.name)));
}

async function fillIn(place, promise) {
  try {
    const node = await promise;
    replace(place);
    if (node) place.append(node);
  } catch (error) {
    if (error.name !== "AbortError") replace(place, problemBox(error));
  }
}

async function statisticsView(id, array, signal) {
  const found = await api.get(`/v1/matrices/${id}/statistics?array=${array.name}`, signal);
  const { diagonal, histogram: bins } = found;
  return section("Values",
    facts([
      ["lowest", format.number(found.minimum)],
      ["highest", format.number(found.maximum)],
      ["not finite", found.nonfinite ? format.count(found.nonfinite) : null],
      ["trace", diagonal && format.number(diagonal.trace)],
    ]),
    bins && [
      h("h3", null, `Histogram of ${bins.of}`),
      histogram({ edges: bins.edges, counts: bins.counts, title: `Histogram of ${bins.of}`, xLabel: "value", yLabel: "count" }),
    ],
    diagonal && [
      h("h3", null, "Diagonal"),
      lineChart({
        points: diagonal.values.map((value, i) => [i * diagonal.rows_per_value, value]),
        title: "Diagonal", xLabel: diagonal.rows_per_value > 1 ? `row (means of ${diagonal.rows_per_value})` : "row", yLabel: "value",
      }),
    ]);
}

// The spectrum, when a job has computed it.
async function spectrumView(id, array, signal) {
  const jobs = await api.list(`/v1/jobs?state=succeeded&type=spectrum&matrix=${id}`, { signal });
  const job = jobs.find(({ task }) => (task.array ?? "ntk") === array.name);
  if (!job) return null;
  const node = await resultView(job, await api.get(`/v1/jobs/${job.id}/result`, signal), signal);
  node.querySelector("h2").textContent = "Spectrum";
  return node;
}
