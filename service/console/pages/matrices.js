// The list of matrices.

import * as api from "../lib/api.js";
import { h } from "../lib/dom.js";
import * as format from "../lib/format.js";
import { badge, idLink, pageTitle, section, table } from "../parts/basics.js";
import { kernelWords } from "../parts/pickers.js";

export async function matrices({ signal }) {
  const items = await api.list("/v1/matrices", { signal });
  return {
    title: "Matrices",
    node: h("div", null, pageTitle("Matrices"), section("Stored", table(
      "Matrices, newest first",
      ["Matrix", "Kind", "Of", "Arrays", { name: "Shape", number: true }, { name: "Size", number: true }, "State", "Begun"],
      items.map((matrix) => ({
        key: matrix.id,
        cells: [
          idLink(matrix.id),
          matrix.kind,
          kernelWords(matrix.provenance.request?.kernel) ?? "",
          matrix.arrays.map((array) => array.name).join(", "),
          matrix.arrays[0] ? format.shape(matrix.arrays[0].shape) : "",
          matrix.stored_bytes === null ? "" : format.bytes(matrix.stored_bytes),
          badge(matrix.state),
          format.time(matrix.created_at),
        ],
      })),
      ["No matrices yet. ", h("a", { href: "#/new" }, "Submit a job"), " of type gram to make one."],
    ))),
  };
}
