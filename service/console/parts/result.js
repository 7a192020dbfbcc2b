// What a job has made: its numbers, and curves where its arrays are some.

import { request } from "../lib/api.js";
import { h } from "../lib/dom.js";
import * as format from "../lib/format.js";
import { parseNpy } from "../lib/npy.js";
import { facts, idLink, json, section } from "./basics.js";
import { lineChart } from "./chart.js";

export async function resultView(job, { matrix, summary }, signal) {
  // The digest is long and for comparing: last.
  const plain = Object.entries(summary)
    .filter(([, value]) => value !== null && typeof value !== "object")
    .sort(([a], [b]) => (a === "digest") - (b === "digest"));
  const nested = Object.entries(summary).filter(([, value]) => value && typeof value === "object" && !Array.isArray(value) && !isPlot(value));
  return section("Result",
    matrix && h("p", null, "Stored as ", idLink(matrix), "."),
    job.type === "spectrum" && matrix && (await spectrumChart(matrix, signal)),
    summary.residual_plot && residualChart(summary.residual_plot.data.values, summary.tolerance),
    facts(plain.map(([name, value]) => [format.label(name), shown(name, value)])),
    nested.map(([name, value]) => h("details", null, h("summary", null, format.label(name)), flat(value))),
    h("details", null, h("summary", null, "All of it"), json(summary, "The summary")));
}

// `values`: of the Vega-Lite document in the summary of a solve.
function residualChart(values, tolerance) {
  const points = values.filter((value) => value.curve === "recursive").map((value) => [value.iteration, value.residual]);
  return residualCurve(points.length ? points : values.map((value) => [value.iteration, value.residual]), tolerance);
}

export function residualCurve(points, tolerance) {
  return lineChart({
    points, title: "Relative residual", xLabel: "iteration", yLabel: "relative residual", logY: true,
    line: { value: tolerance, label: "tolerance" },
  });
}

// Vega-Lite documents are drawn, not listed.
const isPlot = (value) => "$schema" in value;

function shown(name, value) {
  const text = format.quantity(name, value);
  return name === "digest" ? h("span", { class: "mono wrap" }, text) : text;
}

function flat(value) {
  const small = Object.entries(value).filter(([, item]) => item !== null && typeof item !== "object");
  return small.length ? facts(small.map(([name, item]) => [format.label(name), format.quantity(name, item)])) : json(value);
}

// The eigenvalues of a spectrum job, largest first, on logarithmic axes.
export async function spectrumChart(matrixId, signal) {
  const response = await request("GET", `/v1/matrices/${matrixId}/slice?array=eigenvalues`, { accept: "application/x-npy", signal });
  const { values } = parseNpy(await response.arrayBuffer());
  // A thousand points are as good as a million on 500 pixels.
  const step = Math.max(1, values.length / 1000);
  const points = [];
  for (let at = 0; at < values.length; at += points.length < 100 ? 1 : step) points.push([Math.floor(at) + 1, values[Math.floor(at)]]);
  return lineChart({ points, title: "Eigenvalues", xLabel: "index", yLabel: "eigenvalue", logY: true, logX: true });
}
