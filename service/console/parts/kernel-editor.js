// A kernel: a preset with its fields, or the whole network as JSON.

import { h, replace, uniqueId } from "../lib/dom.js";
import { prose } from "./basics.js";
import { schemaForm } from "./schema-form.js";

// `catalogue`: GET /v1/kernels. `value`: a preset's name or object, or a list of layers.
// Returns {node, read()}; `read` throws SyntaxError. Emits `input` events like any form.
export function kernelEditor(catalogue, value = "fc") {
  const activations = catalogue.activations.map((entry) => entry.name);
  const given = typeof value === "string" ? { preset: value } : value;
  const group = uniqueId("kernel");
  const choose = h("select", { id: `${group}-preset` },
    catalogue.presets.map((preset) => h("option", { value: preset.name, selected: preset.name === given.preset }, preset.name)));
  const about = h("p", { class: "hint", id: `${group}-about` });
  choose.setAttribute("aria-describedby", about.id);
  const slot = h("div");
  let form = null;
  const entry = () => catalogue.presets.find((preset) => preset.name === choose.value);
  const show = (values = {}) => {
    form = schemaForm(entry().schema, { values, widgets: { options: { activation: activations } } });
    replace(about, prose(`${entry().summary}. ${entry().source}.`));
    replace(slot);
    slot.append(form.node);
  };
  show(given.preset ? given : {});
  choose.addEventListener("change", () => show());

  const text = h("textarea", { id: `${group}-json`, rows: 14, spellcheck: "false", class: "mono", "aria-describedby": `${group}-fault` });
  const fault = h("p", { id: `${group}-fault`, class: "field-fault", "aria-live": "polite" });
  const preset = () => ({ preset: choose.value, ...form.value() });
  const layers = h("button", { type: "button", class: "small" }, "Write out the layers of the preset");
  layers.addEventListener("click", () => {
    text.value = JSON.stringify(entry().expansion, null, 2);
    text.dispatchEvent(new Event("input", { bubbles: true }));
  });

  const byPreset = h("div", null,
    h("div", { class: "field wide" }, h("label", { for: choose.id }, "preset"), choose, about), slot);
  const byText = h("div", { class: "field" }, h("label", { for: text.id }, "network as JSON"), text, fault, layers,
    h("p", { class: "hint" }, `Ops: ${catalogue.ops.map((op) => op.name).join(", ")}. Checked by the service as you write.`));
  const radio = (mode, title, checked) =>
    h("label", null, h("input", { type: "radio", name: group, value: mode, checked }), ` ${title}`);
  const modes = h("div", { class: "choices", role: "radiogroup", "aria-label": "How to describe the kernel" },
    radio("preset", "Preset", Boolean(given.preset)), radio("json", "JSON", !given.preset));
  const mode = () => modes.querySelector("input:checked").value;
  const turn = () => {
    const json = mode() === "json";
    if (json && !text.value) text.value = JSON.stringify(preset(), null, 2);
    byPreset.hidden = json;
    byText.hidden = !json;
  };
  if (!given.preset) text.value = JSON.stringify(given, null, 2);
  modes.addEventListener("change", turn);
  turn();

  return {
    node: h("div", { class: "kernel-editor" }, modes, byPreset, byText),
    read() {
      if (mode() === "preset") return preset();
      try {
        const value = JSON.parse(text.value);
        fault.textContent = "";
        text.removeAttribute("aria-invalid");
        return value;
      } catch (error) {
        fault.textContent = `Not JSON: ${error.message}`;
        text.setAttribute("aria-invalid", "true");
        throw new SyntaxError(fault.textContent);
      }
    },
    faults: () => (mode() === "preset" ? form.faults() : 0),
  };
}
