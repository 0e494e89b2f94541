// The table of methods, score against cost, reward against KL.
function table(node, options) {
  return new DataTable(node, { autoWidth: false, info: false, paging: false, searching: false, order: [], ...options,
    layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null, ...options.layout } });
}

function mark(difference, column) {
  if (!difference) return element("span", { class: "mark" }, "");
  const loud = { better: ["▲", "better"], worse: ["▼", "worse"], higher: ["▲", "higher"], lower: ["▼", "lower"] }[difference.verdict];
  const text = `${interval(difference, column.unit, true)} against ${data.reference}: ${difference.verdict}`;
  const options = { class: `mark ${loud ? difference.verdict : "none"}`, title: text };
  return element("span", options, loud ? `${loud[0]} ${loud[1]}` : "·", element("span", { class: "hidden" }, ` (${text})`));
}

function scoreCell(method, column) {
  const cell = column.cells[method];
  if (!cell) return element("td", { "data-order": "-1e300" }, element("span", { class: "note" }, "not measured"));
  const range = cell.low === null || cell.low === cell.high ? "" : `${number(cell.low, column.unit)} to ${number(cell.high, column.unit)}`;
  return element("td", { "data-order": cell.value },
    element("span", { class: "value" }, number(cell.value, column.unit)), " ", mark(column.differences[method], column),
    element("span", { class: "range" }, range));
}

function scoreHead(column) {
  return element("th", { scope: "col" }, titleOf(column), element("span", { class: "unit" }, column.unit),
    column.headline ? null : element("span", { class: "unit" }, "not in the verdict"));
}
function smallestCell(column) {
  return element("td", {}, column.detectable === null ? "n/a" : `± ${number(column.detectable, column.unit)}`);
}

function boardTable() {
  const columns = headlines().filter((column) => column.headline).concat(headlines().filter((column) => !column.headline));
  const cost = data.costs.axes.filter((axis) => ["flops", "seconds", "oracle_calls"].includes(axis.id) || axis.id === data.costs.matched);
  const kl = data.columns.find((column) => column.benchmark === "preference" && column.metric === "kl");
  const head = element("tr", {}, element("th", { scope: "col" }, "method"),
    columns.slice(0, 1).map(scoreHead),
    cost.map((axis) => element("th", { scope: "col" }, axis.title,
      element("span", { class: "unit" }, axis.id === data.costs.matched ? "matched" : seedsOf() > 1 ? "mean" : ""))),
    kl && element("th", { scope: "col" }, "KL", element("span", { class: "unit" }, "nats/answer")), columns.slice(1).map(scoreHead));
  const rows = data.methods.map((method) => element("tr", { class: method.role === "control" ? "control" : null },
    element("th", { scope: "row", title: method.summary }, swatch(method.name), foreign(method.name),
      method.role === "method" ? null : element("span", { class: "tag" }, method.role)),
    columns.slice(0, 1).map((column) => scoreCell(method.name, column)),
    cost.map((axis) => { const spent = data.costs.spent[method.name][axis.id];
      return element("td", { "data-order": spent }, amount(spent)); }),
    kl && element("td", { "data-order": kl.cells[method.name]?.value ?? -1 }, number(kl.cells[method.name]?.value)),
    columns.slice(1).map((column) => scoreCell(method.name, column))));
  const smallest = element("tr", {}, element("th", { scope: "row" }, "could have shown"),
    columns.slice(0, 1).map(smallestCell), [...cost, ...(kl ? [kl] : [])].map(() => element("td")), columns.slice(1).map(smallestCell));
  const node = element("table", { id: "board" }, element("caption", { class: "hidden" }, "Methods with scores and costs"),
    element("thead", {}, head), element("tbody", {}, rows), element("tfoot", {}, smallest));
  const holder = scrolling("Table of methods", node);
  const hint = element("p", { class: "note", hidden: true }, "Scroll the table sideways for costs and further scores →");
  new ResizeObserver(() => { hint.hidden = holder.scrollWidth <= holder.clientWidth; }).observe(holder);
  const whole = element("div", {}, hint, holder);
  whole.start = () => table(node, { order: columns.length ? [[1, columns[0].better < 0 ? "asc" : "desc"]] : [] });
  return whole;
}

function explain() {
  return element("div", {}, element("p", { class: "note" }, "Small figures: 95% intervals over prompts", seedsOf() > 1 ? " and seeds" : "",
    `. ▲ ▼: shown to differ from `, foreign(data.reference), ", corrected for the number of comparisons; ·: no difference shown. ",
    "Last row: the smallest true difference that would have been found four times in five. Costs are of training, the stored pairs included."), data.notes.map((note) => sentence(note, { class: "note" })));
}
function seedsOf() { return Math.max(0, ...data.methods.map((method) => method.seeds.length)); }

// Score against cost ------------------------------------------------------------------------------------------------
function costSection() {
  const columns = headlines().filter((column) => column.better);
  if (!columns.length) return null;
  const axes = data.costs.axes;
  let column = columns[0];
  let axis = axes.find((each) => each.id === "flops") || axes[0];
  const points = () => Object.keys(column.cells).map((method) => ({ method, cost: data.costs.spent[method][axis.id],
    ...column.cells[method], line: data.pareto[column.id]?.[axis.id]?.includes(method) ?? false }));
  const figure = chart("Score against cost, with the Pareto line", () => {
    const free = points().filter((row) => row.cost === 0);
    const values = nested(points().filter((row) => row.cost > 0), "cost", "value");
    const x = { field: "cost", type: "quantitative", title: `${axis.title} (mean over seeds)`, axis: shortAxis(),
      scale: { zero: false, nice: true, padding: 18 } };
    const y = { field: "value", type: "quantitative", title: `${titleOf(column)}, ${column.unit}`, scale: { zero: false, padding: 12 } };
    const tooltip = [{ field: "method", title: "method" }, { field: "value", title: column.unit, format: ".4~g" },
      { field: "low", format: ".4~g" }, { field: "high", format: ".4~g" }, { field: "cost", title: axis.title, format: ".3~s" }];
    return { height: 340, data: { values }, layer: [
      { data: { values: free }, mark: { type: "rule", strokeDash: [2, 3], color: palette().control, strokeWidth: 1.5 }, encoding: { y } },
      { data: { values: free }, mark: { type: "text", align: "left", baseline: "bottom", dx: 4, dy: -3, fontSize: 12.5, color: palette().quiet },
        encoding: { x: { value: 0 }, y, text: { field: "named" } }, transform: [{ calculate: "datum.method + ' (no training)'", as: "named" }] },
      { data: { values: values.filter((row) => row.line) }, mark: { type: "line", interpolate: "step-after",
        color: palette().quiet, strokeDash: [5, 4], strokeWidth: 1.5 }, encoding: { x, y, order: { field: "cost" } } },
      { mark: { type: "rule", strokeWidth: 1.5, opacity: 0.55 }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" },
        color: methodEncoding(others.concat(controls)).color } },
      { name: "points", mark: pointMark(), encoding: { x, y, tooltip, size: pointSize, ...methodEncoding(others.concat(controls)) } },
      ...names(x, y),
    ] };
  }, placeNames);
  const behind = element("div");
  const update = () => {
    figure.redraw();
    behind.replaceChildren(numbers(`${titleOf(column)} against ${axis.title}`, ["method", axis.title, column.unit, "on the Pareto line"],
      points().map((row) => [row.method, amount(row.cost), interval(row, column.unit), row.line ? "yes" : ""])));
  };
  update();
  const controls_ = element("div", { class: "fields" },
    field("Score", select(columns.map((each) => [each.id, titleOf(each)]), column.id, (id) => { column = columns.find((each) => each.id === id); update(); })),
    field("Cost", select(axes.map((each) => [each.id, each.title]), axis.id, (id) => { axis = axes.find((each) => each.id === id); update(); })));
  return section("cost", "Score against cost",
    "The dashed line joins the methods that no other beats at the same cost or less. Bars are 95% intervals: points whose bars overlap widely may change places.",
    controls_, figure, behind);
}

// Reward against KL -------------------------------------------------------------------------------------------------
function distanceSection() {
  const distance = data.distance;
  if (!distance) return null;
  const rows = distance.points.map((point) => ({ method: point.method, kl: point.kl.value, kl_low: point.kl.low, kl_high: point.kl.high,
    reward: point.reward.value, low: point.reward.low, high: point.reward.high }));
  nested(rows, "kl", "reward");
  const shown = others.concat(controls);
  const figure = chart("Reward against KL to the start policy", () => {
    const x = { field: "kl", type: "quantitative", title: distance.kl, scale: { zero: false, padding: 16 } };
    const y = { field: "reward", type: "quantitative", title: distance.reward, scale: { zero: false, padding: 12 } };
    const encoding = methodEncoding(shown);
    const tooltip = [{ field: "method" }, { field: "kl", format: ".3~f" }, { field: "reward", format: ".3~f" }];
    return { height: 340, data: { values: rows }, layer: [
      { data: { values: distance.paths }, mark: { type: "line", strokeWidth: 1.5, opacity: 0.6 },
        encoding: { x, y, order: { field: "share" }, color: encoding.color } },
      { data: { values: distance.paths }, mark: { type: "circle", size: 16, opacity: 0.7 }, encoding: { x, y, color: encoding.color } },
      { mark: { type: "rule", opacity: 0.45 }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color: encoding.color } },
      { mark: { type: "rule", opacity: 0.45 }, encoding: { x: { ...x, field: "kl_low" }, x2: { field: "kl_high" }, y, color: encoding.color } },
      { name: "points", mark: pointMark(), encoding: { x, y, tooltip, size: pointSize, ...encoding } },
      ...names(x, y),
    ] };
  }, placeNames);
  return section("distance", "Reward against KL",
    "How far each policy moved from the start policy, and what it got for it. Thin lines: its way there, where a curve was measured. Up and to the left is better.",
    figure, numbers("Reward against KL", ["method", "KL", "reward"], distance.points.map((point) => [point.method, interval(point.kl, ""), interval(point.reward, "share met")])));
}
