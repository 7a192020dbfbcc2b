// Uploading a data set.

import { request } from "../lib/api.js";
import { announce, h, replace, uniqueId } from "../lib/dom.js";
import { problemBox } from "./basics.js";

// `onDone(dataset)` after each upload that succeeded.
export function uploadForm(onDone) {
  const id = uniqueId("upload");
  const x = h("input", { id: `${id}-x`, type: "file", accept: ".npy,.npz", required: true });
  const y = h("input", { id: `${id}-y`, type: "file", accept: ".npy" });
  const name = h("input", { id: `${id}-name`, type: "text", maxlength: 200 });
  const button = h("button", { type: "submit", class: "primary" }, "Upload");
  const message = h("div", null);
  const row = (input, title, hint) =>
    h("div", { class: "field" }, h("label", { for: input.id }, title), input, hint && h("p", { class: "hint" }, hint));
  const form = h("form", { class: "fields one" },
    row(x, "Samples", "An .npy file (m, …), or .npz with x and y."),
    row(y, "Targets", "An .npy file: integer labels (m,) or numbers (m, k). May be left out."),
    row(name, "Name", "A label for people."),
    h("div", { class: "actions" }, button),
    message);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData();
    body.append("x", x.files[0]);
    if (y.files.length) body.append("y", y.files[0]);
    if (name.value) body.append("name", name.value);
    button.disabled = true;
    replace(message, h("p", { class: "muted", role: "status" }, "Uploading…"));
    try {
      const dataset = await (await request("POST", "/v1/datasets", { form: body })).json();
      replace(message);
      form.reset();
      announce("The data set is stored.");
      onDone(dataset);
    } catch (error) {
      replace(message, problemBox(error));
    } finally {
      button.disabled = false;
    }
  });
  return form;
}
