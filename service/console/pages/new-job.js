// A new job of any type: its form comes from the schema of the API, its price from the service.

import * as api from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { debounce } from "../lib/poll.js";
import { go, setQuery } from "../lib/router.js";
import { json, pageTitle, problemBox, prose, section } from "../parts/basics.js";
import { datasetPreview } from "../parts/dataset-preview.js";
import { estimateBox } from "../parts/estimate.js";
import { kernelEditor } from "../parts/kernel-editor.js";
import { idWidgets } from "../parts/pickers.js";
import { schemaForm } from "../parts/schema-form.js";
import { uploadForm } from "../parts/upload.js";

const PAUSE_MS = 350;

export async function newJob({ query, signal }) {
  const [document, catalogue, datasets, matrices] = await Promise.all([
    api.once("/openapi.json"),
    api.once("/v1/kernels"),
    api.list("/v1/datasets", { signal }),
    api.list("/v1/matrices?state=sealed", { signal }),
  ]);
  const tasks = taskSchemas(document);
  const given = Object.fromEntries(query);
  const type = given.type in tasks ? given.type : "gram";
  const choose = h("select", { id: "type" }, Object.keys(tasks).map((name) => h("option", { value: name, selected: name === type }, name)));
  choose.addEventListener("change", () => go(`/new?${new URLSearchParams({ ...given, type: choose.value })}`));

  const { schema, defs } = tasks[type];
  let kernel = null;
  const widgets = {
    ...idWidgets(datasets, matrices),
    kernel: ({ id }) => {
      kernel = kernelEditor(catalogue);
      const node = h("div", { id, role: "group", "aria-label": "kernel" }, kernel.node);
      return { input: node, node, wide: true, read: kernel.read };
    },
  };
  // An object with a discriminator (`analysis`) is chosen by its name and has a form of its own.
  const nested = Object.entries(schema.properties).find(([, property]) => property.discriminator);
  const form = schemaForm(dataFirst(schema), { defs, values: given, widgets, skip: nested ? [nested[0]] : [] });
  const inner = nested && variantForm(nested[0], nested[1], { defs, values: given, widgets });

  const price = h("div", { "aria-live": "polite" }, h("p", { class: "muted" }, "Fill in what is required to see what the job would cost."));
  const sent = h("details", null, h("summary", null, "The request"), h("div"));
  const submit = h("button", { type: "submit", form: "task", class: "primary", disabled: true }, "Submit");
  const message = h("div");

  const read = () => ({ type, ...form.value(), ...(inner ? { [nested[0]]: inner.value() } : {}) });
  const missing = (task) => [
    ...(schema.required ?? []).filter((name) => !(name in task)),
    ...(inner ? inner.missing() : []),
  ];
  let turn = 0;
  const estimate = async () => {
    const task = read();
    const faults = form.faults() + (inner?.faults() ?? 0) + (kernel?.faults() ?? 0);
    replace(sent.lastChild, json({ task }, "The request"));
    submit.disabled = true;
    const now = (turn += 1);
    if (faults) {
      replace(price, h("p", { class: "muted" }, "Correct the fields that are marked."));
      return;
    }
    if (missing(task).length) {
      replace(price, h("p", { class: "muted" }, `Still needed: ${missing(task).join(", ")}.`));
      return;
    }
    try {
      const answer = await api.post("/v1/estimates", { task }, signal);
      if (now !== turn) return; // an older answer, overtaken
      form.mark([]);
      replace(price, estimateBox(answer));
      submit.disabled = !answer.admitted;
    } catch (error) {
      if (error.name === "AbortError" || now !== turn) return;
      form.mark(error.document?.errors ?? []);
      replace(price, problemBox(error));
    }
  };
  const later = debounce(estimate, PAUSE_MS, signal);

  const element = h("form", { id: "task", novalidate: true },
    section("Task", h("div", { class: "field wide" }, h("label", { for: "type" }, "type"), choose,
      h("p", { class: "hint" }, prose(schema.description ?? ""))), inner?.node, form.node));
  element.addEventListener("input", () => {
    // What was priced is not what is there any more.
    submit.disabled = true;
    later();
  });
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      const job = await api.post("/v1/jobs", { task: read() });
      go(`/jobs/${job.id}`);
    } catch (error) {
      replace(message, problemBox(error));
      submit.disabled = false;
    }
  });
  estimate();

  const samples = type === "gram" ? samplesPanel(element, form, datasets, signal) : null;
  return {
    title: "New job",
    node: h("div", null, pageTitle("New job"),
      h("div", { class: "columns wide-first" },
        h("div", null, element),
        h("div", { class: "aside" }, section("Cost", price, h("div", { class: "actions" }, submit), message, sent), samples))),
  };
}

// name -> {schema, defs} of every task type in the document of the API.
function taskSchemas(document) {
  const defs = document.components.schemas;
  const task = defs.JobRequest.properties.task;
  return Object.fromEntries(
    Object.entries(task.discriminator.mapping).map(([name, reference]) => [name, { schema: defs[reference.split("/").at(-1)], defs }]),
  );
}

// People choose what to work on before they say how: what is required first.
function dataFirst(schema) {
  const isData = (property) => /"pattern":"\^(ds|mx)-/.test(JSON.stringify(property));
  const rank = ([name, property]) => (isData(property) ? (schema.required?.includes(name) ? 0 : 1) : 2);
  const fields = Object.entries(schema.properties).sort((a, b) => rank(a) - rank(b));
  return { ...schema, properties: Object.fromEntries(fields) };
}

// A field that is one of several objects, told apart by a name.
function variantForm(field, property, { defs, values, widgets }) {
  const { mapping, propertyName } = property.discriminator;
  const start = values[propertyName] in mapping ? values[propertyName] : Object.keys(mapping)[0];
  const choose = h("select", { id: `variant-${field}` }, Object.keys(mapping).map((name) => h("option", { value: name, selected: name === start }, name)));
  const slot = h("div");
  const about = h("p", { class: "hint" });
  let form = null;
  const show = () => {
    const schema = defs[mapping[choose.value].split("/").at(-1)];
    replace(about, prose(schema.description ?? ""));
    form = schemaForm(schema, { defs, values, widgets });
    replace(slot);
    slot.append(form.node);
  };
  show();
  choose.addEventListener("change", show);
  return {
    node: h("div", { class: "variant" }, h("div", { class: "field wide" }, h("label", { for: choose.id }, field), choose, about), slot),
    value: () => ({ [propertyName]: choose.value, ...form.value() }),
    faults: () => form.faults(),
    missing() {
      const given = form.value();
      const { required = [] } = defs[mapping[choose.value].split("/").at(-1)];
      return required.filter((name) => name !== propertyName && !(name in given));
    },
  };
}

// The samples that were chosen, and a way to bring others.
function samplesPanel(element, form, datasets, signal) {
  const preview = h("div");
  let shown = null;
  const look = async () => {
    const chosen = form.value().x1;
    if (chosen === shown) return;
    shown = chosen;
    const dataset = datasets.find((item) => item.id === chosen);
    if (!dataset) {
      replace(preview, h("p", { class: "muted" }, datasets.length ? "Choose x1 to see its first samples." : "Nothing is uploaded yet."));
      return;
    }
    try {
      const node = await datasetPreview(dataset, signal);
      if (shown === chosen) replace(preview, node);
    } catch (error) {
      if (error.name !== "AbortError") replace(preview, problemBox(error));
    }
  };
  element.addEventListener("input", look);
  look();
  const upload = h("details", { open: datasets.length === 0 }, h("summary", null, "Upload a data set"),
    uploadForm((dataset) => {
      setQuery("/new", { x1: dataset.id });
      go(`/new?x1=${dataset.id}`);
    }));
  return section("Samples", preview, upload);
}
