// Starts the console: navigation, pages, and who is signed in.

import * as api from "./lib/api.js";
import { announce, h, replace } from "./lib/dom.js";
import { route, start } from "./lib/router.js";
import { problemBox } from "./parts/basics.js";
import { compare } from "./pages/compare.js";
import { datasetPage, datasets } from "./pages/datasets.js";
import { experiment, experiments } from "./pages/experiments.js";
import { job } from "./pages/job.js";
import { matrices } from "./pages/matrices.js";
import { matrix } from "./pages/matrix.js";
import { newJob } from "./pages/new-job.js";
import { overview } from "./pages/overview.js";
import { signIn } from "./pages/sign-in.js";

const NAVIGATION = [
  ["/", "Overview"],
  ["/new", "New job"],
  ["/datasets", "Data sets"],
  ["/matrices", "Matrices"],
  ["/compare", "Compare"],
  ["/experiments", "Experiments"],
];

// A page that cannot be made shows why; an unauthorized one becomes the sign-in form.
function guarded(page) {
  return async (place) => {
    try {
      return await page(place);
    } catch (error) {
      if (error.name === "AbortError") return { title: "", node: h("div") };
      if (error instanceof api.Problem && error.status === 401) return signIn(account);
      return { title: "Error", node: h("div", null, h("h1", { tabindex: -1 }, "This did not work"), problemBox(error)) };
    }
  };
}

route("/", guarded(overview));
route("/new", guarded(newJob));
route("/datasets", guarded(datasets));
route("/datasets/:id", guarded(datasetPage));
route("/jobs/:id", guarded(job));
route("/matrices", guarded(matrices));
route("/matrices/:id", guarded(matrix));
route("/compare", guarded(compare));
route("/experiments", guarded(experiments));
route("/experiments/:name", guarded(experiment));
route("/sign-in", () => signIn(account));

function lost(path) {
  return {
    title: "Nothing here",
    node: h("div", null, h("h1", { tabindex: -1 }, "Nothing here"), h("p", null, `There is no page ${path}. `, h("a", { href: "#/" }, "Overview"))),
  };
}

function show({ title, node }, { path, initial }) {
  const main = document.getElementById("main");
  replace(main);
  main.append(node);
  main.dataset.page = location.hash;
  document.title = title ? `${title} – Gramian` : "Gramian";
  navigation(path);
  // A new page begins at its heading, for the eye and for the screen reader; not when it loads.
  if (!initial) {
    scrollTo(0, 0);
    main.querySelector("h1")?.focus({ preventScroll: true });
    announce(title);
  }
}

function navigation(path) {
  const here = ([place]) => (place === "/" ? path === "/" || path.startsWith("/jobs/") : path.startsWith(place));
  replace(
    document.getElementById("nav"),
    h("ul", null, NAVIGATION.map((entry) =>
      h("li", null, h("a", { href: `#${entry[0]}`, "aria-current": here(entry) ? "page" : null }, entry[1])))),
  );
}

// Who the service takes us for; nothing on an open service.
async function account() {
  const place = document.getElementById("account");
  if (!api.key()) {
    // With keys /docs needs one, which a link cannot send.
    replace(place, h("a", { href: "/guide/" }, "Guide"), h("a", { href: "/docs" }, "API"));
    return;
  }
  const out = h("button", { type: "button", class: "small" }, "Sign out");
  out.addEventListener("click", () => {
    api.setKey(null);
    api.forget();
    location.hash = "/sign-in";
    account();
  });
  try {
    const me = await api.get("/v1/me");
    replace(place, h("a", { href: "/guide/" }, "Guide"), h("span", { class: "muted" }, `${me.owner} (${me.scope})`), out);
  } catch (error) {
    replace(place, h("span", { class: "muted" }, error.kind === "unauthorized" ? "not signed in" : "no answer"), out);
  }
}

addEventListener("gramian:unauthorized", () => {
  if (location.hash !== "#/sign-in" && api.key()) announce("The key is not known any more.");
});

account();
start({ show, lost });
