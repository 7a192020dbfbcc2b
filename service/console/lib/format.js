// Numbers for people, always with their unit.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

export function bytes(value) {
  if (value === null || value === undefined) return "unknown";
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 99.5 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "unknown";
  if (value < 0.0995) return `${Math.max(1, Math.round(value * 1000))} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 99.5) return `${Math.round(value)} s`;
  if (value < 5970) return `${Math.round(value / 60)} min`;
  if (value < 172800) return `${(value / 3600).toFixed(1)} h`;
  return `${(value / 86400).toFixed(1)} days`;
}

// Thin spaces between groups of three; numbers that are not whole keep four digits.
export function count(value) {
  if (value === null || value === undefined) return "unknown";
  if (!Number.isInteger(value)) return number(value, 4);
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

export function number(value, digits = 6) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value < 0 ? "−∞" : "∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e6) return String(Number(value.toPrecision(digits)));
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${Number(exponent)}`;
}

export function percent(fraction) {
  if (fraction === null || fraction === undefined) return "";
  // 100 % is for what has ended.
  return `${fraction >= 1 ? 100 : Math.min(99.9, fraction * 100).toFixed(fraction < 0.0995 ? 1 : 0)} %`;
}

export function perSecond(value, unit) {
  if (value === null || value === undefined) return "–";
  return `${number(value, 3)} ${unit}/s`;
}

export function shape(dimensions) {
  return dimensions.map(count).join(" × ");
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const calendar = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

export function time(iso) {
  if (!iso) return "–";
  const moment = new Date(iso);
  const today = calendar.format(new Date()) === calendar.format(moment);
  return today ? clock.format(moment) : `${calendar.format(moment)}, ${clock.format(moment)}`;
}

// `ds-`, `mx-` and `job-` ids are 32 hex digits; ten tell them apart for people.
export function shortId(id) {
  return /^[a-z]+-[0-9a-f]{32}$/.test(id) ? `${id.slice(0, id.indexOf("-") + 11)}…` : id;
}

// `wall_seconds` in words: what it is; the unit is said with the value.
export function label(name) {
  return name.replace(/_bytes$/, " size").replace(/_seconds$/, " time").replaceAll("_", " ");
}

// A number of the API by its name, which ends in its unit.
export function quantity(name, value) {
  if (value === null || value === undefined) return null;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "object") return JSON.stringify(value);
  if (typeof value !== "number") return String(value);
  if (/(^|_)bytes($|_)/.test(name) && !name.includes("per_second")) return bytes(value);
  if (/(^|_)seconds($|_)/.test(name)) return seconds(value);
  if (name === "flops") return `${number(value, 3)} operations`;
  return Number.isInteger(value) ? count(value) : number(value);
}
