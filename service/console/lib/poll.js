// Asking again and again, but only while somebody looks.

// Runs `task` now and then `pause_ms` after each end, until `signal`. Hidden tabs wait.
export function poll(task, pauseMs, signal) {
  let timer = 0;
  const turn = async () => {
    if (signal.aborted) return;
    if (!document.hidden) await task();
    if (!signal.aborted) timer = setTimeout(turn, pauseMs);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  const wake = () => {
    if (document.hidden) return;
    clearTimeout(timer);
    turn();
  };
  document.addEventListener("visibilitychange", wake, { signal });
  return turn();
}

// `task` once, `pause_ms` after the last call.
export function debounce(task, pauseMs, signal) {
  let timer = 0;
  signal.addEventListener("abort", () => clearTimeout(timer));
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => task(...values), pauseMs);
  };
}
