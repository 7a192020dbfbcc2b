// One job, live: its events move the numbers, the tile map and the residual.

import * as api from "../lib/api.js";
import { announce, h, replace } from "../lib/dom.js";
import { follow } from "../lib/events.js";
import * as format from "../lib/format.js";
import { go } from "../lib/router.js";
import { badge, confirmButton, facts, idLink, jobState, json, pageTitle, problemBox, progressBar, section, snippet, table } from "../parts/basics.js";
import { basisWords, estimateFacts } from "../parts/estimate.js";
import { eta } from "../parts/eta.js";
import { residualCurve, resultView } from "../parts/result.js";
import { tileMap } from "../parts/tile-map.js";
import { what } from "./overview.js";

const TILED = new Set(["gram", "pixel_gram", "submatrix"]);
const ENDED = new Set(["succeeded", "failed", "cancelled"]);
// The map of a fast job is drawn a few times a second at most.
const MAP_PAUSE_MS = 400;

export async function job({ params, signal }) {
  let current = await api.get(`/v1/jobs/${params.id}`, signal);
  const parts = {
    state: h("div", { class: "job-state" }),
    actions: h("div", { class: "actions" }),
    message: h("div"),
    error: h("div"),
    numbers: h("div"),
    workers: h("div"),
    failures: h("div"),
    curve: h("div"),
    result: h("div"),
    line: h("p", { class: "muted small", "aria-live": "polite" }),
  };
  const map = TILED.has(current.type) ? tileMap() : null;
  if (map) signal.addEventListener("abort", map.close);
  const began = { marks: [] };

  const draw = () => {
    replace(parts.state, badge(jobState(current)),
      progressBar(current.state === "succeeded" ? 1 : current.progress?.fraction, "Progress of the job"));
    replace(parts.error, current.error && problemBox(new api.Problem({
      kind: current.error.kind, detail: current.error.message, advice: current.error.advice, status: 0,
    })));
    replace(parts.numbers, progressFacts(current, began.marks));
    const history = current.progress?.history;
    if (history?.length) {
      replace(parts.curve, section("Residual", residualCurve(history, current.progress.tolerance), h("p", { class: "hint" }, `Residual of the recursion; certified in float64: ${format.number(current.progress.certified, 3)}.`)));
    }
    // Drawn anew with every event, a button would forget that it asks.
    const stage = `${current.state} ${current.cancelling}`;
    if (parts.actions.dataset.stage !== stage) {
      parts.actions.dataset.stage = stage;
      replace(parts.actions, actions(current, parts.message, refresh));
    }
  };

  let lastMap = 0;
  let waiting = false;
  const drawMap = async (force) => {
    // A job that waits has no tiles, nor has one that was cancelled while it did, nor one that has
    // not counted them yet.
    const counted = current.progress?.tiles_total !== undefined || ENDED.has(current.state);
    if (!map || !current.started_at || !counted || (waiting && !force)) return;
    waiting = true;
    const pause = force ? 0 : Math.max(0, lastMap + MAP_PAUSE_MS - performance.now());
    await new Promise((resolve) => setTimeout(resolve, pause));
    waiting = false;
    lastMap = performance.now();
    try {
      const tiles = await api.get(`/v1/jobs/${params.id}/tiles?cells=64`, signal);
      map.draw(tiles);
      replace(parts.workers, workerTable(tiles.workers));
      replace(parts.failures, failureTable(tiles.failures));
    } catch (error) {
      if (error.name !== "AbortError") replace(parts.failures, problemBox(error));
    }
  };
  const drawResult = async () => {
    if (current.state !== "succeeded") return;
    try {
      const result = await api.get(`/v1/jobs/${params.id}/result`, signal);
      replace(parts.result, await resultView(current, result, signal));
      replace(parts.curve); // the result has the whole of it
    } catch (error) {
      if (error.name !== "AbortError") replace(parts.result, problemBox(error));
    }
  };
  const refresh = async () => {
    current = await api.get(`/v1/jobs/${params.id}`, signal);
    draw();
  };

  draw();
  drawMap(true);
  drawResult();
  const watch = follow(params.id, {
    signal,
    onConnection: (up) => replace(parts.line, up ? "" : "The connection broke; it is tried again. The job goes on without it."),
    onEvent: async ({ type, data }) => {
      if (type === "progress" && !ENDED.has(current.state)) {
        current = { ...current, progress: data };
        if (typeof data.tiles_done === "number") began.marks.push([performance.now() / 1000, data.tiles_done]);
        draw();
        drawMap();
      } else if (type === "tile-failed") {
        drawMap();
      } else if (type === "state" || type === "cancelling") {
        if (ENDED.has(current.state)) return;
        await refresh();
        if (ENDED.has(current.state)) {
          announce(`The job has ${current.state === "cancelled" ? "been cancelled" : current.state}.`);
          drawMap(true);
          drawResult();
        }
      }
    },
  });
  watch.catch((error) => error.name !== "AbortError" && replace(parts.message, problemBox(error)));

  return {
    title: `Job ${format.shortId(current.id)}`,
    node: h("div", null,
      pageTitle(what(current.task), parts.actions),
      parts.state, parts.line, parts.message, parts.error,
      h("div", { class: "columns" },
        h("div", null, map && section("Tiles", map.node), parts.failures, parts.curve, parts.result),
        h("div", null, section("Progress", parts.numbers), parts.workers, section("Request", about(current)),
          section("Estimate before it ran", estimateFacts(current.estimate ?? {}),
            basisWords(current.estimate ?? {}) && h("p", { class: "hint" }, `Time ${basisWords(current.estimate)}.`)),
          section("From elsewhere",
            snippet("command line", `gramian watch ${current.id}`),
            snippet("curl", `curl --no-buffer '${location.origin}/v1/jobs/${current.id}/events'`))))),
  };
}

function progressFacts(job, marks) {
  const progress = job.progress ?? {};
  const left = ENDED.has(job.state) ? null : eta(job, marks);
  const took = job.started_at && (job.finished_at ?? null);
  return h("div", null,
    facts([
      ["phase", job.state === "running" ? progress.phase : null],
      ["left", left?.text],
      ["tiles", progress.tiles_total === undefined ? null : `${format.count(progress.tiles_done)} of ${format.count(progress.tiles_total)}`],
      ["found from before", progress.tiles_resumed ? `${format.count(progress.tiles_resumed)} tiles` : null],
      ["rate", job.state === "running" && progress.tiles_per_second ? format.perSecond(progress.tiles_per_second, "tiles") : null],
      ["written", progress.bytes_total === undefined ? null : `${format.bytes(progress.bytes_written)} of ${format.bytes(progress.bytes_total)}`],
      ["products with the matrix", progress.applications === undefined ? null : format.count(progress.applications)],
      ["residual", progress.residual === undefined ? null : format.number(progress.residual, 3)],
      ["tasks", progress.tasks_total === undefined ? null : `${format.count(progress.tasks_done)} of ${format.count(progress.tasks_total)}`],
      ["submitted", format.time(job.created_at)],
      ["started", job.started_at ? format.time(job.started_at) : null],
      ["ended", job.finished_at ? format.time(job.finished_at) : null],
      ["took", took ? format.seconds((new Date(job.finished_at) - new Date(job.started_at)) / 1000) : null],
      ["attempts", job.attempts > 1 ? job.attempts : null],
    ]),
    left && h("p", { class: "hint" }, left.how));
}

function actions(job, message, refresh) {
  const out = [];
  const attempt = (action) => async () => {
    try {
      await action();
    } catch (error) {
      replace(message, problemBox(error));
    }
  };
  if (job.matrix && job.state === "succeeded") out.push(h("a", { class: "button primary", href: `#/matrices/${job.matrix}` }, "Open the matrix"));
  if (!ENDED.has(job.state) && !job.cancelling) {
    out.push(confirmButton("Cancel", "Cancel the job?", attempt(async () => {
      await api.remove(`/v1/jobs/${job.id}`);
      announce("The job is being cancelled.");
      await refresh();
    })));
  }
  if (["failed", "cancelled"].includes(job.state)) {
    const again = h("button", { type: "button", class: "primary" }, "Resume");
    again.title = "Submits the same request; finished tiles are not computed again.";
    again.addEventListener("click", attempt(async () => {
      const next = await api.post("/v1/jobs", { task: job.task });
      go(`/jobs/${next.id}`);
    }));
    out.push(again);
  }
  return out;
}

function about(job) {
  const inputs = ["x1", "x2", "matrix", "other", "cross", "solution", "targets", "test_targets"].filter((name) => job.task[name]);
  return h("div", null,
    facts([
      ["job", h("span", { class: "mono" }, job.id)],
      ["owner", job.owner],
      ...inputs.map((name) => [format.label(name), idLink(job.task[name])]),
      ["builds", job.matrix && idLink(job.matrix)],
    ]),
    h("details", null, h("summary", null, "As it was sent"), json(job.task, "The task")));
}

function workerTable(workers) {
  if (!workers?.length) return null;
  const number = (name) => ({ name, number: true });
  return section("Workers of this run", table(
    "Tiles by worker", ["Worker", number("Tiles"), number("Busy"), number("Rate")],
    workers.map((worker) => ({
      key: worker.worker,
      cells: [
        h("span", { class: "mono" }, worker.worker.replace(/^tcp:\/\//, "")),
        format.count(worker.tiles),
        format.seconds(worker.seconds),
        format.perSecond(worker.tiles / worker.seconds, "tiles"),
      ],
    })),
  ));
}

function failureTable(failures) {
  if (!failures?.length) return null;
  return section("Failed tiles", table(
    "Failed tiles, newest first", ["Tile", "What happened", "What to do", "", "At"],
    failures.map((failure, index) => ({
      key: `${index}`,
      cells: [
        failure.tile ? failure.tile.join(", ") : "–",
        h("div", null, failure.message, h("div", { class: "muted small" }, failure.kind)),
        failure.advice,
        failure.fatal ? "ended the job" : "tried again",
        format.time(failure.at),
      ],
    })),
  ));
}
