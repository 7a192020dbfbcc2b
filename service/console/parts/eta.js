// How long a job will take yet, with how sure that is.

import * as format from "../lib/format.js";

// Two independent guesses: the pace of the last half minute, which the service measures, and the
// mean pace since the first event that this page saw of the run. They span the range. Before any
// tile is there only the estimate is left.
// `marks`: [[seconds, tiles_done], …] of this page. Returns {text, how}, or null.
export function eta(job, marks) {
  const { tiles_done: done, tiles_total: total, seconds_left: recent } = job.progress ?? {};
  if (job.cancelling) return { text: "stopping", how: "The job ends when its running tiles have." };
  if (total !== undefined && typeof recent === "number") {
    const [first, last] = [marks[0], marks.at(-1)];
    const paced = first && last[1] > first[1] ? ((total - done) * (last[0] - first[0])) / (last[1] - first[1]) : recent;
    const [low, high] = [Math.min(recent, paced), Math.max(recent, paced)];
    const [a, b] = [format.seconds(low), format.seconds(high)];
    return {
      text: a === b ? `about ${a}` : `${a} to ${b}`,
      how: "Between the pace of the last half minute and the mean pace since this page has been watching.",
    };
  }
  const projected = job.estimate?.seconds;
  if (typeof projected !== "number") return null;
  return {
    text: `about ${format.seconds(projected)}`,
    how:
      job.estimate.basis === "measured"
        ? "From tiles of this kernel measured here before; no tile of this run is there yet."
        : "From the cost model: no tile of this kernel was ever measured here, so it may be several times off.",
  };
}
