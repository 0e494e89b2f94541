// Elements and numbers. Text reaches the page by textContent alone.
const data = JSON.parse(document.getElementById("report").textContent);

function element(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

// Foreign text: its own direction, kept apart from the text around it.
function foreign(text, tag = "bdi", options = {}) {
  return element(tag, { dir: "auto", ...options }, text);
}

// A sentence of the verdict in Markdown: names as code, marks that a backslash takes the meaning from; nothing else is read.
function sentence(text, options = {}) {
  const parts = text.replaceAll("**", "").split(/(`[^`]*`|\\[\\`[\]])/);
  return element("p", options, parts.map((part) => part.startsWith("`") ? foreign(part.slice(1, -1), "code") : part.replace(/^\\(?=.$)/, "")));
}

const MINUS = "\u2212";
function signed(text) { return text.replace("-", MINUS); }

function number(value, unit = "", plus = false) {
  if (value === null || value === undefined) return "n/a";
  const digits = unit.includes("%") ? 1 : unit === "share met" ? 3 : 2;
  return (plus && value > 0 ? "+" : "") + signed(value.toFixed(digits));
}

function interval(cell, unit, plus = false) {
  if (!cell || cell.value === null || cell.value === undefined) return "n/a";
  const value = number(cell.value, unit, plus);
  if (cell.low === null || cell.high === null || cell.low === undefined) return value;
  if (cell.low === cell.high) return `${value} (no spread)`;
  return `${value} [${number(cell.low, unit, plus)}, ${number(cell.high, unit, plus)}]`;
}

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
function amount(value) {
  if (value === null || value === undefined) return "n/a";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7) {
    const power = Math.floor(Math.log10(size));
    const raised = String(power).replace(/\d/g, (digit) => SUPERSCRIPT[Number(digit)]);
    const factor = String(Number((value / 10 ** power).toPrecision(3)));
    return factor === "1" ? `10${raised}` : `${factor}·10${raised}`;
  }
  if (size >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(size < 1 ? 2 : 3)));
}

function section(id, title, note, ...children) {
  const heading = element("h2", { id: `${id}-title` }, title);
  return element("section", { id, "aria-labelledby": `${id}-title` }, heading, note && element("p", { class: "note" }, note), children);
}

let labels = 0;
function field(label, control) {
  control.id = control.id || `field-${++labels}`;
  return element("div", { class: "field" }, element("label", { for: control.id }, label), control);
}

// `options` are pairs of a value and a text.
function select(options, chosen, change) {
  const control = element("select", { on: { change: () => change(control.value) } },
    options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
  return control;
}

function scrolling(label, ...children) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, children);
}

// The numbers behind a chart, for whoever cannot or does not want to read the chart.
function numbers(caption, header, rows, title = "The numbers") {
  const table = element("table", { class: "plain" }, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, header.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell, place) =>
      place ? element("td", {}, cell) : foreign(cell, "th", { scope: "row" }))))));
  return element("details", { class: "numbers" }, element("summary", {}, title), scrolling(caption, table));
}

function titleOf(column) { return column.label ? `${column.title} (${column.label})` : column.title; }
function headlines() { return data.columns.filter((column) => column.primary); }
