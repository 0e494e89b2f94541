// Wins, categories, costs by phase, predictions, judges.
function winsSection() {
  if (!data.wins.length) return null;
  let matrix = data.wins[0];
  const holder = element("div");
  const update = () => {
    const names = matrix.methods;
    const head = element("tr", {}, element("td", {}, ""), names.map((name) => foreign(name, "th", { scope: "col" })));
    const rows = names.map((name) => element("tr", {}, foreign(name, "th", { scope: "row" }), names.map((other) => {
      const cell = matrix.cells[name][other];
      if (!cell) return element("td", { class: "self" }, name === other ? "–" : "n/a");
      const shown = cell.low !== null && (cell.low > 50 || cell.high < 50);
      const strength = Math.min(1, Math.abs(cell.value - 50) / 25);
      return element("td", { class: `win ${cell.value >= 50 ? "over" : "under"} ${shown ? "loud" : ""}`, style: `--strength:${strength.toFixed(2)}` },
        element("span", { class: "value" }, `${number(cell.value, "%")}%`),
        element("span", { class: "range" }, cell.low === null || cell.low === cell.high ? "" : `${number(cell.low, "%")} to ${number(cell.high, "%")}`));
    })));
    holder.replaceChildren(scrolling("Win rates", element("table", { class: "matrix" },
      element("caption", { class: "hidden" }, `Win rates by ${matrix.title}`), element("thead", {}, head), element("tbody", {}, rows))));
  };
  update();
  return section("wins", "Who wins against whom",
    "Percent of prompts on which the row's value is better than the column's, ties half, on the same prompts. Bold: the 95% interval of this one comparison leaves out 50%.",
    element("div", { class: "fields" }, field("By", select(data.wins.map((each) => [each.id, each.title]), matrix.id,
      (id) => { matrix = data.wins.find((each) => each.id === id); update(); }))), holder);
}

function categoriesSection() {
  if (!data.categories.length) return null;
  let shown = data.categories[0];
  const names = others.concat(controls);
  const figure = chart("Scores by category", (width) => {
    const categories = [...new Set(shown.rows.map((row) => row.category))];
    const values = shown.rows.map((row) => ({ ...row, low: row.error === null ? row.value : row.value - row.error, high: row.error === null ? row.value : row.value + row.error }));
    const y = { field: "category", type: "nominal", title: null, axis: { labelLimit: width < 500 ? 90 : 220 } };
    const offset = { field: "method", sort: names };
    const encoding = methodEncoding(names);
    const x = { field: "value", type: "quantitative", title: `${shown.title}, ${shown.unit}`, scale: { zero: false, padding: 10 } };
    return { height: categories.length * Math.max(26, 9 * new Set(shown.rows.map((row) => row.method)).size), data: { values }, layer: [
      { mark: { type: "rule", opacity: 0.6 }, encoding: { y, yOffset: offset, x: { ...x, field: "low" }, x2: { field: "high" }, color: encoding.color } },
      { mark: { type: "point", filled: true, size: 60, opacity: 1 }, encoding: { y, yOffset: offset, x, ...encoding,
        tooltip: [{ field: "method" }, { field: "category" }, { field: "value", format: ".3~f" }, { field: "n", title: "items" }] } },
    ] };
  });
  const behind = element("div");
  const update = () => {
    figure.redraw();
    behind.replaceChildren(numbers(shown.title, ["method", "category", shown.unit, "items"],
      shown.rows.map((row) => [row.method, row.category, `${number(row.value, shown.unit)}${row.error === null ? "" : ` ± ${number(row.error, shown.unit)}`}`, row.n])));
  };
  update();
  return section("categories", "By category",
    "Mean and standard error over the category's items. Few items each: some differ by chance.",
    element("div", { class: "fields" }, field("Benchmark", select(data.categories.map((each) => [each.id, each.title]), shown.id,
      (id) => { shown = data.categories.find((each) => each.id === id); update(); }))),
    legendOf(names), figure, behind);
}

function spendingSection() {
  const { phases, quantities, rows } = data.phases;
  if (!rows.length) return null;
  let quantity = quantities[0];
  const used = phases.filter((phase) => rows.some((row) => row.phase === phase));
  const figure = chart("Spending by phase", (width) => {
    const colours = palette().methods;
    return { height: 110 + 30 * data.methods.length, data: { values: rows.filter((row) => row[quantity.id]).map((row) => ({ ...row, spent: amount(row[quantity.id]) })) },
      mark: { type: "bar", cornerRadius: 1, stroke: palette().paper, strokeWidth: 1 },
      encoding: { y: { field: "method", type: "nominal", title: null, sort: data.methods.map((method) => method.name) },
        x: { field: quantity.id, type: "quantitative", title: quantity.title, axis: shortAxis() },
        color: { field: "phase", type: "nominal", sort: used, scale: { domain: used, range: used.map((_, place) => [...colours, palette().control][place % 9]) },
          legend: { orient: "top", title: null, columns: width < 500 ? 3 : 9 } },
        order: { field: "place", type: "quantitative" },
        tooltip: [{ field: "method" }, { field: "phase" }, { field: "spent", title: quantity.title }] },
      transform: [{ calculate: `indexof(${JSON.stringify(used)}, datum.phase)`, as: "place" }] };
  });
  const behind = element("div");
  const update = () => {
    figure.redraw();
    behind.replaceChildren(numbers(`${quantity.title} by phase`, ["method", ...used],
      data.methods.map((method) => [method.name, ...used.map((phase) => amount(rows.find((row) => row.method === method.name && row.phase === phase)?.[quantity.id] ?? 0))])));
  };
  update();
  return section("spending", "Where the spending went",
    "Mean over seeds. Loading, evaluation, judge and search count towards no budget; the stored pairs are paid for by whoever trains on them.",
    element("div", { class: "fields" }, field("Quantity", select(quantities.map((each) => [each.id, each.title]), quantity.id,
      (id) => { quantity = quantities.find((each) => each.id === id); update(); }))), figure, behind, predictions());
}

function predictions() {
  const heading = element("h3", {}, "Predicted and spent");
  if (!data.predictions.length) {
    return [heading, element("p", { class: "note" }, "Not available: predictions lie in the store, which is not here or is of an earlier version.")];
  }
  const rows = data.predictions.map((row) => {
    const ratio = row.predicted ? row.spent / row.predicted : null;
    const off = ratio !== null && (ratio > 1.25 || ratio < 0.8);
    return element("tr", {}, foreign(row.method, "th", { scope: "row" }), element("td", {}, row.axis), element("td", { "data-order": row.predicted }, amount(row.predicted)),
      element("td", { "data-order": row.spent }, amount(row.spent)),
      element("td", { "data-order": ratio ?? 0, class: off ? "off" : null }, ratio === null ? "n/a" : `${ratio.toFixed(2)} ×`));
  });
  const node = element("table", { class: "plain", id: "predictions" }, element("caption", { class: "hidden" }, "Predicted and spent"),
    element("thead", {}, element("tr", {}, ["method", "axis", "predicted", "spent", "spent / predicted"].map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, rows));
  const holder = scrolling("Predicted and spent", node);
  holder.start = () => table(node, rows.length > 12 ? { paging: true, pageLength: 10, layout: { bottomStart: "info", bottomEnd: "paging" }, info: true } : {});
  starts.push(holder);
  return [heading, element("p", { class: "note" }, "What sail-bench plan said of training, and what it spent."), holder];
}

function judgesSection() {
  if (!data.judges.length) return null;
  const cards = data.judges.map((judge) => element("article", { class: "card" },
    element("h3", {}, judge.kind.startsWith("the start") ? "Local judge" : foreign(judge.name)), element("p", {}, `${judge.kind.charAt(0).toUpperCase()}${judge.kind.slice(1)}${judge.orders ? `, orders: ${judge.orders}` : ""}. Judges ${judge.of.join(", ")}.`,
      judge.answered.length ? [" Answered by ", foreign(judge.answered.join(", ")), "."] : null),
    judge.sections.map((part) => element("div", {}, element("p", { class: "note" }, `Measured on ${part.pairs} pairs of `, foreign(part.file), ` (${part.date})`),
      scrolling("Figures of the judge", element("table", { class: "plain" }, element("caption", { class: "hidden" }, "Figures of the judge"),
        element("thead", {}, element("tr", {}, ["figure", "value", "n"].map((name) => element("th", { scope: "col" }, name)))),
        element("tbody", {}, part.figures.map((figure) => element("tr", {}, element("th", { scope: "row" }, figure.title),
          element("td", {}, `${interval(figure, figure.unit)} ${figure.unit}`), element("td", {}, figure.n)))))))),
    judge.missing ? element("p", { class: "warning" }, judge.missing) : null));
  return section("judges", "Judge card", "A win rate is worth as much as its judge.", cards);
}
