// What the service is doing now: jobs, workers, disk. Asked again every two seconds, and not
// followed by events: a browser opens six connections to a host, and streams would take them.

import * as api from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import * as format from "../lib/format.js";
import { poll } from "../lib/poll.js";
import { badge, idLink, jobState, pageTitle, problemBox, progressBar, section, table } from "../parts/basics.js";
import { kernelWords } from "../parts/pickers.js";

const PAUSE_MS = 2000;
const JOBS = 50;

export async function overview({ signal }) {
  const trouble = h("div", { "aria-live": "polite" });
  const numbers = h("div", { class: "cards" });
  const jobs = h("div");
  const workers = h("div");
  const look = async () => {
    const [list, cluster] = await Promise.all([
      api.list("/v1/jobs", { limit: JOBS, signal }),
      api.get("/v1/cluster", signal),
    ]);
    replace(trouble);
    replace(jobs, jobTable(list));
    replace(numbers, cards(cluster));
    replace(workers, workerTable(cluster.workers));
  };
  await look();
  poll(async () => {
    try {
      await look();
    } catch (error) {
      if (error.name !== "AbortError") replace(trouble, problemBox(error));
    }
  }, PAUSE_MS, signal);
  return {
    title: "Overview",
    node: h("div", null,
      pageTitle("Overview", h("a", { href: "#/new", class: "button primary" }, "New job")),
      trouble, numbers, section("Jobs", jobs), section("Workers", workers)),
  };
}

function cards({ workers, jobs, memory_bytes: memory, memory_limit_bytes: limit, tiles_per_second: rate, store, scheduler }) {
  const card = (name, value, ...rest) =>
    h("div", { class: "card", "data-key": name }, h("h2", null, name), h("p", { class: "big" }, value), h("p", { class: "muted small" }, ...rest));
  const total = store.free_bytes === null ? null : store.free_bytes + store.used_bytes;
  return [
    card("Jobs", `${format.count(jobs.running)} running`,
      `${format.count(jobs.queued)} queued, ${format.count(jobs.succeeded)} succeeded, ${format.count(jobs.failed)} failed, ${format.count(jobs.cancelled)} cancelled`),
    card("Throughput", rate ? `${format.number(rate, 3)} tiles/s` : "idle", "Tiles of the running jobs, over the last half minute"),
    card("Memory of workers", format.bytes(memory),
      !workers.length ? "no workers" : limit ? `of ${format.bytes(limit)} on ${workers.length} workers` : `on ${workers.length} workers without a limit`,
      limit ? h("meter", { min: 0, max: limit, high: 0.9 * limit, value: memory, "aria-label": "Memory of workers" }) : null),
    card("Disk", `${format.bytes(store.free_bytes)} free`, `${format.bytes(store.used_bytes)} of data sets and matrices`,
      total ? h("meter", { min: 0, max: total, value: store.used_bytes, "aria-label": "Share of the store on the disk" }) : null),
    !scheduler && h("div", { class: "problem", "data-key": "scheduler" }, "No scheduler answers. Jobs wait until one does; see /readyz."),
  ];
}

export function jobTable(jobs) {
  return table(
    "Jobs, newest first",
    ["Job", "What", "State", "Progress", { name: "Rate", number: true }, { name: "Left", number: true }, "Submitted"],
    jobs.map((job) => ({
      key: job.id,
      cells: [
        idLink(job.id),
        what(job.task),
        badge(jobState(job)),
        progressBar(job.state === "succeeded" ? 1 : job.progress?.fraction, `Progress of ${job.id}`),
        job.state === "running" && job.progress?.tiles_per_second ? format.perSecond(job.progress.tiles_per_second, "tiles") : "",
        job.state === "running" && typeof job.progress?.seconds_left === "number" ? format.seconds(job.progress.seconds_left) : "",
        format.time(job.created_at),
      ],
    })),
    ["No jobs yet. ", h("a", { href: "#/datasets" }, "Upload a data set"), ", then ", h("a", { href: "#/new" }, "submit a job"), "."],
  );
}

// A task in a few words.
export function what(task) {
  if (task.kernel) return `${task.type}: ${kernelWords(task.kernel)}`;
  if (task.analysis) return `analysis: ${task.analysis.name}`;
  if (task.method) return `${task.type}: ${task.method}`;
  return task.type;
}

function workerTable(workers) {
  const number = (name) => ({ name, number: true });
  return table(
    "Workers",
    ["Worker", "State", number("Memory"), number("Limit"), number("CPU"), number("Running"), number("Waiting")],
    workers.map((worker) => ({
      key: worker.address,
      cells: [
        h("span", { class: "mono" }, worker.address.replace(/^tcp:\/\//, "")),
        worker.state,
        format.bytes(worker.memory_bytes),
        worker.memory_limit_bytes ? format.bytes(worker.memory_limit_bytes) : "none",
        worker.cpu_percent === null ? "" : `${Math.round(worker.cpu_percent)} %`,
        worker.executing,
        worker.queued,
      ],
    })),
    "No workers. The embedded ones start within seconds; `gramian worker` adds others.",
  );
}
