// Pages by the part of the address after `#`: `#/jobs/job-…`, `#/new?type=solve&matrix=mx-…`.

const routes = [];
let leave = new AbortController();

// `pattern`: "/jobs/:id". `page({params, query, signal})` returns {title, node} or a promise of it;
// `signal` ends when the page is left.
export function route(pattern, page) {
  const names = [...pattern.matchAll(/:(\w+)/g)].map((match) => match[1]);
  const expression = new RegExp(`^${pattern.replace(/:\w+/g, "([^/]+)")}$`);
  routes.push({ expression, names, page });
}

export function go(path) {
  if (location.hash === `#${path}`) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = path;
}

// Changes the query of the address without leaving the page.
export function setQuery(path, query) {
  const text = new URLSearchParams(query).toString();
  history.replaceState(null, "", `#${path}${text ? `?${text}` : ""}`);
}

export function start({ show, lost }) {
  let first = true;
  const open = async () => {
    // "#main" is the skip link's target, not a page.
    if (location.hash === "#main") return;
    leave.abort();
    leave = new AbortController();
    const { signal } = leave;
    const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
    const found = routes.find((entry) => entry.expression.test(path));
    const initial = first;
    first = false;
    if (!found) {
      show(lost(path), { path, initial });
      return;
    }
    const values = found.expression.exec(path).slice(1);
    const params = Object.fromEntries(
      found.names.map((name, index) => [name, decodeURIComponent(values[index])]),
    );
    const page = await found.page({ params, query: new URLSearchParams(query), signal, path });
    if (!signal.aborted) show(page, { path, initial });
  };
  addEventListener("hashchange", open);
  return open();
}
