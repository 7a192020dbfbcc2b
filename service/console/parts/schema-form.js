// A form from the JSON schema of an object, as pydantic writes it. What is left as it is, is left
// out: the service has the defaults.

import { h, uniqueId } from "../lib/dom.js";
import { label } from "../lib/format.js";
import { prose } from "./basics.js";

// `widgets`: name or pattern -> function(field) that makes the input; see `control`.
// Returns {node, value(), faults(), mark(errors)}.
export function schemaForm(schema, { defs = schema.$defs ?? {}, values = {}, widgets = {}, skip = [] } = {}) {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {})
    .filter(([name, property]) => !("const" in property) && !skip.includes(name))
    .map(([name, property]) => field(name, property, { defs, required: required.has(name), value: values[name], widgets }));
  return {
    node: h("div", { class: "fields" }, fields.map((one) => one.node)),
    value() {
      const out = {};
      for (const one of fields) {
        const value = one.read();
        if (value !== undefined) out[one.name] = value;
      }
      return out;
    },
    faults: () => fields.filter((one) => one.fault()).length,
    // Shows errors of the service, [{where, what}], at the fields they name.
    mark(errors) {
      for (const one of fields) {
        const found = errors.find((error) => error.where.split(".").includes(one.name));
        one.say(found ? found.what : "");
      }
    },
  };
}

function field(name, property, { defs, required, value, widgets }) {
  const plain = resolve(property, defs);
  const id = uniqueId("field");
  const note = h("p", { id: `${id}-note`, class: "field-fault", "aria-live": "polite" });
  const hint = [property.description ?? plain.description, bounds(plain)].filter(Boolean).join(" ");
  const control = (widgets[name] ?? widgets[plain.pattern] ?? chosen(plain))({
    id, name, required, value, schema: plain, fallback: property.default, options: widgets.options?.[name],
  });
  const described = [hint && `${id}-hint`, `${id}-note`].filter(Boolean).join(" ");
  control.input.setAttribute("aria-describedby", described);
  let fault = "";
  const say = (text) => {
    note.textContent = text;
    control.input.toggleAttribute("aria-invalid", Boolean(text));
  };
  const head = h("label", { for: id }, name, required && h("span", { class: "required" }, " required"));
  const text = hint && h("p", { id: `${id}-hint`, class: "hint" }, prose(hint));
  const check = control.input.type === "checkbox";
  return {
    name,
    say,
    fault: () => fault,
    node: h("div", { class: `field ${check ? "check" : control.wide ? "wide" : ""}` }, check ? [control.node, head] : [head, control.node], text, note),
    read() {
      fault = "";
      try {
        const out = control.read();
        say("");
        return out;
      } catch (error) {
        fault = error.message;
        say(fault);
        return undefined;
      }
    },
  };
}

// Without `$ref`, and without the null of what may be left out.
function resolve(schema, defs) {
  let found = schema;
  while (found.$ref) found = { ...defs[found.$ref.split("/").at(-1)], ...without(found, "$ref") };
  if (found.anyOf) {
    const rest = found.anyOf.filter((option) => option.type !== "null").map((option) => resolve(option, defs));
    if (rest.length === 1) return { ...without(found, "anyOf"), ...rest[0], optional: true };
    return { ...found, anyOf: rest };
  }
  return found;
}

function without(object, name) {
  return Object.fromEntries(Object.entries(object).filter(([key]) => key !== name));
}

function bounds(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const most = schema.maximum ?? schema.exclusiveMaximum;
  // Beyond that it is a guard of the service and nothing to choose by.
  const high = most > 1e9 ? undefined : most;
  if (low === undefined && high === undefined) return "";
  const above = schema.exclusiveMinimum !== undefined ? "above" : "from";
  const below = schema.exclusiveMaximum !== undefined ? "below" : "to";
  if (high === undefined) return above === "above" ? `Above ${low}.` : `At least ${low}.`;
  if (low === undefined) return `At most ${high}.`;
  return `${above === "above" ? "Above" : "From"} ${low} ${below} ${high}.`;
}

function chosen(schema) {
  if (schema.enum) return choice;
  if (schema.type === "boolean") return check;
  if (schema.type === "integer" || schema.type === "number") return numeric;
  if (schema.type === "string") return words;
  if (schema.type === "array" && schema.items?.enum) return several;
  return structure;
}

function choice({ id, value, schema, fallback }) {
  const start = value ?? fallback ?? "";
  const input = h(
    "select",
    { id },
    (schema.optional || fallback === undefined) && h("option", { value: "" }, "as the service chooses"),
    schema.enum.map((option) => h("option", { value: option, selected: option === start }, option)),
  );
  return { input, node: input, read: () => (input.value === "" || input.value === fallback ? undefined : input.value) };
}

function check({ id, value, fallback }) {
  const input = h("input", { id, type: "checkbox", checked: value ?? fallback ?? false });
  return { input, node: input, read: () => (input.checked === (fallback ?? false) ? undefined : input.checked) };
}

function numeric({ id, value, schema, fallback, required }) {
  const whole = schema.type === "integer";
  const input = h("input", {
    id, type: "number", step: whole ? 1 : "any", min: schema.minimum ?? schema.exclusiveMinimum,
    max: schema.maximum, value, required, placeholder: fallback ?? (required ? null : "as the service chooses"),
  });
  return {
    input,
    node: input,
    read() {
      if (input.validity.badInput) throw new TypeError("This is not a number.");
      if (input.value === "") return undefined;
      if (whole && !Number.isInteger(input.valueAsNumber)) throw new TypeError("A whole number is needed.");
      return input.valueAsNumber;
    },
  };
}

function words({ id, value, schema, fallback, required }) {
  const input = h("input", { id, type: "text", value, required, maxlength: schema.maxLength, placeholder: fallback });
  return { input, node: input, read: () => (input.value === "" ? undefined : input.value) };
}

function several({ id, name, value = [], schema }) {
  const boxes = schema.items.enum.map((option) => h("input", { type: "checkbox", value: option, checked: value.includes(option) }));
  const node = h("div", { id, class: "choices", role: "group", "aria-label": label(name) },
    boxes.map((box) => h("label", null, box, ` ${box.value}`)));
  const read = () => {
    const out = boxes.filter((box) => box.checked).map((box) => box.value);
    return out.length ? out : undefined;
  };
  return { input: node, node, read };
}

// A name, a number, or JSON: `relu`, `1.5`, `[1, 2]`, `{"fn": "erf"}`.
function structure({ id, value, fallback, options, required }) {
  const list = options && h("datalist", { id: `${id}-list` }, options.map((option) => h("option", { value: option })));
  const show = (given) => (given === undefined || given === null ? null : typeof given === "string" ? given : JSON.stringify(given));
  const input = h("input", {
    id, type: "text", value: show(value), placeholder: show(fallback), required, list: list && `${id}-list`, spellcheck: "false",
  });
  return {
    input,
    node: list ? h("div", null, input, list) : input,
    read() {
      const text = input.value.trim();
      if (!text) return undefined;
      if (/^[A-Za-z_][\w-]*$/.test(text) && !["true", "false", "null"].includes(text)) return text;
      try {
        return JSON.parse(text);
      } catch (error) {
        throw new TypeError(`This is neither a name nor JSON: ${error.message}`);
      }
    },
  };
}
