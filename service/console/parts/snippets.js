// Ready to paste: the same matrix from other programs.

import { key } from "../lib/api.js";
import { snippet } from "./basics.js";

export function snippets(matrix, array) {
  const origin = location.origin;
  const url = `${origin}/v1/matrices/${matrix.id}`;
  const flat = array.shape.length === 1;
  const block = `array=${array.name}&rows=0:2${flat ? "" : "&cols=0:2"}`;
  const part = flat ? "[:2]" : "[:2, :2]";
  // With keys: from the environment, so that none is pasted into a file.
  const keyed = Boolean(key());
  const options = keyed ? ", storage_options=headers" : "";
  const head = keyed
    ? `import os\n\nheaders = {"headers": {"Authorization": "Bearer " + os.environ["GRAMIAN_API_KEY"]}}\n`
    : "";
  const curl = keyed ? `-H "Authorization: Bearer $GRAMIAN_API_KEY" ` : "";
  return [
    snippet("zarr", `${head}import zarr\n\nk = zarr.open("${url}/zarr", mode="r"${options})\nprint(k["${array.name}"]${part})\n`),
    snippet("xarray", `${head}import xarray\n\nk = xarray.open_zarr("${url}/zarr"${options})\nprint(k["${array.name}"])\n`),
    snippet("NumPy", numpy(`${url}/slice?${block}`, keyed)),
    snippet("curl", `curl ${curl}-H 'Accept: application/json' '${url}/slice?${block}'`),
    snippet("Python client", client(origin, matrix.id, array.name, part, keyed)),
  ];
}

function client(origin, id, name, part, keyed) {
  const options = keyed ? `, api_key=os.environ["GRAMIAN_API_KEY"]` : "";
  return (
    `${keyed ? "import os\n\n" : ""}from service.client import Client\n\n` +
    `with Client("${origin}"${options}) as client:\n    k = client.open_zarr("${id}", "${name}")\n    print(k${part})\n`
  );
}

function numpy(url, keyed) {
  const request = keyed
    ? `urllib.request.Request(url, headers={"Authorization": "Bearer " + os.environ["GRAMIAN_API_KEY"]})`
    : "url";
  return (
    `import io${keyed ? ", os" : ""}\nimport urllib.request\n\nimport numpy as np\n\nurl = "${url}"\n` +
    `with urllib.request.urlopen(${request}) as answer:\n    block = np.load(io.BytesIO(answer.read()))\nprint(block)\n`
  );
}
