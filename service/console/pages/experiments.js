// The experiments of the papers: which have a result here, and one result beside the published one.

import * as api from "../lib/api.js";
import { h } from "../lib/dom.js";
import * as format from "../lib/format.js";
import { json, pageTitle, section, snippet, table } from "../parts/basics.js";

export async function experiments({ signal }) {
  const items = await api.get("/v1/experiments", signal);
  return {
    title: "Experiments",
    node: h("div", null, pageTitle("Experiments"),
      section("Of the papers", table(
        "Experiments of the papers",
        ["Experiment", "What it shows", "Result"],
        items.map((item) => ({
          key: item.name,
          cells: [
            item.finished_at ? h("a", { href: `#/experiments/${item.name}` }, item.name) : item.name,
            item.summary,
            item.finished_at ? format.time(item.finished_at) : h("span", { class: "muted" }, "not run here"),
          ],
        })),
        "This version has none.",
      )),
      section("Run one", snippet("command line", "gramian paper unit-circle"),
        h("p", { class: "muted" }, "In the folder where the service keeps its data, or with --data-dir; minutes at the default size."))),
  };
}

export async function experiment({ params, signal }) {
  const path = `/v1/experiments/${encodeURIComponent(params.name)}`;
  const report = await api.get(path, signal);
  return {
    title: report.title,
    node: h("div", null,
      pageTitle(report.title),
      h("p", { class: "muted" }, report.source),
      section("Published and here", table(
        "Published numbers and those that came out here",
        ["Quantity", "Published", "Here"],
        report.comparisons.map((one) => ({ key: one.quantity, cells: [one.quantity, one.published, one.here] })),
        "The paper has no numbers for it.",
      )),
      section("Picture", await picture(`${path}/picture.svg`, report.title, signal)),
      section("What differs from the published experiment",
        h("ul", null, report.differences.map((sentence) => h("li", null, sentence)))),
      section("Table", numbers(report.table)),
      section("Settings", json(report.settings, "Settings"))),
  };
}

// Fetched with the key, which an <img> cannot send.
async function picture(path, title, signal) {
  const answer = await api.request("GET", path, { accept: "image/svg+xml", signal });
  const address = URL.createObjectURL(await answer.blob());
  signal.addEventListener("abort", () => URL.revokeObjectURL(address));
  return h("img", { src: address, alt: title, class: "drawing" });
}

function numbers(rows) {
  const columns = Object.keys(rows[0] ?? {});
  const shown = (value) => (typeof value === "number" ? format.number(value) : value ?? "");
  return table(
    "All numbers of the experiment",
    columns.map((name) => ({ name, number: rows.some((row) => typeof row[name] === "number") })),
    rows.map((row, index) => ({ key: String(index), cells: columns.map((name) => shown(row[name])) })),
    "No rows.",
  );
}
