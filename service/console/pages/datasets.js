// Data sets: the list with the upload form, and one of them.

import * as api from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import * as format from "../lib/format.js";
import { go } from "../lib/router.js";
import { confirmButton, facts, idLink, pageTitle, problemBox, section, snippet, table } from "../parts/basics.js";
import { datasetPreview } from "../parts/dataset-preview.js";
import { uploadForm } from "../parts/upload.js";

export async function datasets({ signal }) {
  const list = h("div");
  const look = async () => replace(list, datasetTable(await api.list("/v1/datasets", { signal })));
  await look();
  return {
    title: "Data sets",
    node: h("div", null, pageTitle("Data sets"),
      h("div", { class: "columns narrow-second" },
        section("Stored", list),
        section("Upload", uploadForm((dataset) => go(`/datasets/${dataset.id}`))))),
  };
}

function datasetTable(items) {
  return table(
    "Data sets, newest first",
    ["Name", "Id", { name: "Shape", number: true }, "Type", "Targets", { name: "Size", number: true }, "Stored"],
    items.map((dataset) => ({
      key: dataset.id,
      cells: [
        h("a", { href: `#/datasets/${dataset.id}` }, dataset.name ?? "unnamed"),
        idLink(dataset.id),
        format.shape(dataset.shape),
        dataset.dtype,
        dataset.targets ? `${format.shape(dataset.targets.shape)} ${dataset.targets.dtype}` : "none",
        format.bytes(dataset.stored_bytes),
        format.time(dataset.created_at),
      ],
    })),
    "No data sets yet. Upload samples as .npy or .npz here, or with `gramian submit gram --x1 train.npy`.",
  );
}

export async function datasetPage({ params, signal }) {
  const dataset = await api.get(`/v1/datasets/${params.id}`, signal);
  const message = h("div");
  const preview = h("div", null, h("p", { class: "muted" }, "Reading the first samples…"));
  datasetPreview(dataset, signal).then(
    (node) => replace(preview, node),
    (error) => error.name !== "AbortError" && replace(preview, problemBox(error)),
  );
  const remove = confirmButton("Delete", "Delete for good?", async () => {
    try {
      await api.remove(`/v1/datasets/${dataset.id}`);
      go("/datasets");
    } catch (error) {
      replace(message, problemBox(error));
    }
  });
  const title = dataset.name ?? "Data set";
  return {
    title,
    node: h("div", null,
      pageTitle(title, h("a", { class: "button primary", href: `#/new?x1=${dataset.id}` }, "New job with it"), remove),
      message,
      section("About", facts([
        ["id", h("span", { class: "mono" }, dataset.id)],
        ["shape", format.shape(dataset.shape)],
        ["type", dataset.dtype],
        ["targets", dataset.targets ? `${format.shape(dataset.targets.shape)} ${dataset.targets.dtype}` : "none"],
        ["size", format.bytes(dataset.stored_bytes)],
        ["SHA-256", h("span", { class: "mono wrap" }, dataset.digest)],
        ["stored", format.time(dataset.created_at)],
      ])),
      section("First samples", preview),
      section("From the command line", snippet("curl", `curl -o rows.npy '${location.origin}/v1/datasets/${dataset.id}/rows?rows=0:16'`))),
  };
}
