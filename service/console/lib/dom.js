// Elements from names, attributes and children. Strings only ever become text nodes and attribute
// values, so nothing that a user named can become markup.

const SVG = "http://www.w3.org/2000/svg";

// `attributes`: functions become listeners (`onclick`), true an empty attribute, null nothing.
// `children`: nodes, text, numbers, lists of them; null and false are skipped.
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") {
      if (!name.startsWith("on")) throw new TypeError(`${name} is no listener`);
      element.addEventListener(name.slice(2), value);
    } else if (name.startsWith("on")) {
      throw new TypeError(`${name} must be a function`);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

// Makes `children` the children of the element, changing only what differs: a list that is drawn
// anew every second keeps focus and selection. Listeners of what stays are the old ones, so rows
// carry a `data-key` and listeners depend on nothing else.
export function replace(element, ...children) {
  const wanted = h("div", null, ...children);
  merge(element, [...wanted.childNodes]);
}

function merge(element, wanted) {
  const present = [...element.childNodes];
  wanted.forEach((node, index) => {
    const old = present[index];
    if (old === undefined) element.append(node);
    else if (!old.isEqualNode(node)) change(old, node);
  });
  for (const old of present.slice(wanted.length)) old.remove();
}

// What has listeners or a state of its own is exchanged as a whole.
const WHOLE = new Set(["BUTTON", "INPUT", "SELECT", "TEXTAREA", "CANVAS", "FORM", "svg"]);

function change(old, node) {
  if (old.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) {
    old.nodeValue = node.nodeValue;
  } else if (
    old.nodeName !== node.nodeName ||
    old.nodeType !== Node.ELEMENT_NODE ||
    WHOLE.has(old.nodeName) ||
    old.dataset.key !== node.dataset.key
  ) {
    old.replaceWith(node);
  } else {
    for (const { name } of [...old.attributes]) if (!node.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of node.attributes) old.setAttribute(name, value);
    merge(old, [...node.childNodes]);
  }
}

let labels = 0;
export function uniqueId(prefix) {
  labels += 1;
  return `${prefix}-${labels}`;
}

// Tells people who do not see the page what has changed.
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}
