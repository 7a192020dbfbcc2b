// The small things every page is made of.

import { Problem } from "../lib/api.js";
import { h } from "../lib/dom.js";
import * as format from "../lib/format.js";

// What went wrong and what to do, in the service's own words.
export function problemBox(error) {
  const problem = error instanceof Problem ? error : null;
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", { class: "problem-detail" }, problem ? problem.message : `The console failed: ${error.message}`),
    problem?.advice && h("p", null, problem.advice),
    problem && h("p", { class: "muted small" }, `${problem.kind}${problem.status ? ` (${problem.status})` : ""}`),
  );
}

// `state` in words, with a mark that does not need colours.
const MARKS = {
  queued: "○", running: "◐", succeeded: "●", failed: "✕", cancelled: "–", cancelling: "◌",
  sealed: "●", building: "◐",
};

export function badge(state) {
  return h("span", { class: `badge badge-${state}` }, h("span", { "aria-hidden": "true" }, MARKS[state] ?? "·"), ` ${state}`);
}

export function jobState(job) {
  return job.cancelling ? "cancelling" : job.state;
}

export function progressBar(fraction, name) {
  return h(
    "span",
    { class: "progress-row" },
    h("progress", { max: 1, value: fraction === null || fraction === undefined ? null : fraction, "aria-label": name }),
    h("span", { class: "number" }, format.percent(fraction)),
  );
}

// Names and values; pairs whose value is null or undefined are left out.
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );
}

// `columns`: names, or {name, number: true} for columns of numbers. `rows`: {key, cells}.
export function table(caption, columns, rows, empty) {
  const all = columns.map((column) => (typeof column === "string" ? { name: column } : column));
  const body = rows.map((row) =>
    h("tr", { "data-key": row.key }, row.cells.map((cell, i) => h("td", { class: all[i].number && "number" }, cell))),
  );
  if (!rows.length) body.push(h("tr", null, h("td", { colspan: all.length, class: "empty" }, empty)));
  return h(
    "div",
    { class: "table-wrap", role: "region", "aria-label": caption, tabindex: 0 },
    h(
      "table",
      null,
      h("caption", { class: "visually-hidden" }, caption),
      h("thead", null, h("tr", null, all.map((column) => h("th", { scope: "col", class: column.number && "number" }, column.name)))),
      h("tbody", null, body),
    ),
  );
}

export function section(title, ...children) {
  return h("section", { class: "panel" }, h("h2", null, title), ...children);
}

export function pageTitle(title, ...actions) {
  return h("div", { class: "page-title" }, h("h1", { tabindex: -1 }, title), actions.length > 0 && h("div", { class: "actions" }, actions));
}

export function idLink(id) {
  const place = { "ds-": "datasets", "mx-": "matrices", job: "jobs" }[id.slice(0, 3)];
  return h("a", { href: `#/${place}/${id}`, class: "mono", title: id }, format.shortId(id));
}

// A button that asks once more before it does what cannot be undone.
export function confirmButton(text, question, action) {
  const button = h("button", { type: "button", class: "danger" }, text);
  let asked = false;
  const calm = () => {
    asked = false;
    button.textContent = text;
  };
  button.addEventListener("click", async () => {
    if (!asked) {
      asked = true;
      button.textContent = question;
      return;
    }
    button.disabled = true;
    try {
      await action();
    } finally {
      button.disabled = false;
      calm();
    }
  });
  button.addEventListener("blur", calm);
  return button;
}

// Text of the API with its `names` as code.
export function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", null, part) : part));
}

// Text to be pasted elsewhere.
export function snippet(name, text) {
  const code = h("pre", { tabindex: 0, "aria-label": name }, h("code", null, text));
  const button = h("button", { type: "button", class: "small" }, "Copy");
  button.setAttribute("aria-label", `Copy ${name}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // No permission, or a page without TLS: select it, so that Ctrl-C does it.
      getSelection().selectAllChildren(code);
      button.textContent = "Press Ctrl-C";
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, 2000);
  });
  return h("div", { class: "snippet" }, h("div", { class: "snippet-head" }, h("h3", null, name), button), code);
}

export function json(value, name = "JSON") {
  return h("pre", { tabindex: 0, "aria-label": name }, h("code", null, JSON.stringify(value, null, 2)));
}
