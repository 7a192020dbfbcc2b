// Where an API key is asked for.

import * as api from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { go } from "../lib/router.js";
import { pageTitle, problemBox } from "../parts/basics.js";

// `signedIn()` is called when a key was accepted.
export function signIn(signedIn) {
  const input = h("input", { id: "key", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const message = h("div");
  const form = h("form", { class: "panel narrow fields one" },
    h("div", { class: "field" }, h("label", { for: "key" }, "API key"), input,
      h("p", { class: "hint" }, "Kept in this tab until it is closed, and sent only to this service. ",
        "An administrator makes keys with `gramian keys create`.")),
    h("div", { class: "actions" }, button), message);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const before = api.key();
    button.disabled = true;
    api.forget();
    api.setKey(input.value.trim());
    try {
      await api.get("/v1/me");
      signedIn();
      const hash = location.hash.slice(1);
      go(hash && hash !== "/sign-in" ? hash : "/");
    } catch (error) {
      api.setKey(before);
      replace(message, problemBox(error));
    } finally {
      button.disabled = false;
    }
  });
  return { title: "Sign in", node: h("div", null, pageTitle("Sign in"), form) };
}
