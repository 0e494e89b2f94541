// Charts by Vega-Lite. A chart is drawn when it comes near the screen, and again when theme or choice change.
function config() {
  const colours = palette();
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  const text = { labelColor: colours.quiet, titleColor: colours.ink, labelFont: font, titleFont: font, labelFontSize: 12,
    titleFontSize: 12, titleFontWeight: 500 };
  return { background: null, font, view: { stroke: null }, padding: 4,
    axis: { ...text, gridColor: colours.line, domainColor: colours.quiet, tickColor: colours.quiet, gridOpacity: 0.7 },
    legend: { ...text, symbolSize: 90, symbolStrokeWidth: 2, titlePadding: 4 },
    header: { ...text, titleFontSize: 12, labelFontSize: 12, labelFontWeight: 600, labelColor: colours.ink },
    text: { color: colours.ink, font }, title: { color: colours.ink, font } };
}

// Vega comes last in the file, so that the first screen need not wait for it.
const scriptsRun = new Promise((resolve) => { document.addEventListener("DOMContentLoaded", resolve, { once: true }); });

const waiting = new Map();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const draw = entry.isIntersecting && waiting.get(entry.target);
    if (draw) { waiting.delete(entry.target); watcher.unobserve(entry.target); draw(); }
  }
}, { rootMargin: "300px" });

// `makeSpec` gives a Vega-Lite chart for the width in pixels; `patch` may change the compiled Vega.
function chart(label, makeSpec, patch) {
  const canvas = element("div", { class: "chart", role: "img", "aria-label": label });
  const save = element("button", { type: "button", class: "save", on: { click: () => saveChart(view) } }, "Save SVG");
  save.setAttribute("aria-label", `Save the chart as SVG: ${label}`);
  const figure = element("figure", {}, canvas, save);
  let view = null, turn = 0, drawn = false, width = 0;
  async function draw() {
    drawn = true;
    width = canvas.clientWidth;
    const mine = ++turn;
    await scriptsRun;
    const spec = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", autosize: { type: "fit", contains: "padding" },
      width, ...makeSpec(width), config: config() };
    // Vega warns of layers without data; a comparison without a curve, say, has some.
    if (spec.layer) spec.layer = spec.layer.filter((layer) => (layer.data ?? spec.data).values.length);
    const holder = element("div");
    const result = await vegaEmbed(holder, spec, { renderer: "svg", actions: false, patch, tooltip: { theme } });
    if (mine !== turn) { result.finalize(); return; }
    if (view) view.finalize();
    view = result.view;
    canvas.replaceChildren(holder);
  }
  figure.redraw = () => { if (drawn) draw(); };
  figure.signal = (name, value) => { if (view) view.signal(name, value).runAsync(); };
  redraws.add(figure.redraw);
  new ResizeObserver(() => { if (drawn && Math.abs(canvas.clientWidth - width) > 12) draw(); }).observe(canvas);
  waiting.set(canvas, draw);
  watcher.observe(canvas);
  return figure;
}

async function saveChart(view) {
  if (!view) return;
  const url = URL.createObjectURL(new Blob([await view.toSVG()], { type: "image/svg+xml" }));
  element("a", { href: url, download: "sail-bench.svg" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Names beside the layer `points`. Vega's label transform, which Vega-Lite lacks, keeps them off each other.
function names(x, y) {
  const text = (more) => ({ type: "text", fontSize: 12.5, fontWeight: 500, align: "left", ...more });
  const encoding = { x, y, text: { field: "method" } };
  return [{ name: "halos", mark: text({ stroke: palette().paper, strokeWidth: 5, strokeJoin: "round", color: palette().paper }), encoding },
    { name: "names", mark: text({}), encoding }];
}
function placeNames(compiled) {
  const walk = (marks) => {
    for (const each of marks || []) {
      if (each.name === "halos_marks" || each.name === "names_marks") {
        each.transform = [{ type: "label", size: { signal: "[width, height]" }, offset: [7, 10, 14], avoidMarks: ["points_marks"], avoidBaseMark: true,
          anchor: ["right", "left", "top", "bottom", "top-right", "bottom-right", "top-left", "bottom-left"] }];
      }
      walk(each.marks);
    }
  };
  walk(compiled.marks);
  return compiled;
}

// Large numbers with their power of ten, as in the table: 8·10¹².
function shortAxis() {
  const power = "floor(log(datum.value) / LN10 + 1e-9)";
  const digits = JSON.stringify([...SUPERSCRIPT]);
  const raised = `(${power} > 9 ? ${digits}[floor(${power} / 10)] : '') + ${digits}[${power} % 10]`;
  const factor = `format(datum.value / pow(10, ${power}), '.3~g')`;
  const large = `(${factor} == '1' ? '' : ${factor} + '·') + '10' + ${raised}`;
  return { labelExpr: `datum.value == 0 ? '0' : datum.value < 1e7 ? format(datum.value, '~s') : ${large}`, tickCount: 6 };
}

// Points at one place are drawn into each other: the first large, those after it smaller and on top.
function nested(rows, x, y) {
  const range = (key) => Math.max(...rows.map((row) => row[key])) - Math.min(...rows.map((row) => row[key])) || 1;
  const near = (a, b) => Math.abs(a[x] - b[x]) < 0.012 * range(x) && Math.abs(a[y] - b[y]) < 0.025 * range(y);
  rows.forEach((row, place) => { row.size = 190 / 2.6 ** rows.slice(0, place).filter((other) => near(row, other)).length; });
  return rows.sort((a, b) => b.size - a.size);
}
function pointMark() { return { type: "point", filled: true, opacity: 1, stroke: palette().paper, strokeWidth: 1 }; }
const pointSize = { field: "size", type: "quantitative", scale: null, legend: null };

function methodEncoding(methods, legend) {
  const scales = methodScales(methods);
  return { color: { field: "method", type: "nominal", scale: scales.colour, legend: legend ?? null, sort: null },
    shape: { field: "method", type: "nominal", scale: scales.shape, legend: legend ?? null, sort: null } };
}

// A line as in the chart: stretches of its dash pattern, coloured and empty by turns.
function dashed(style) {
  let end = 0;
  const stops = style.dash.map((length, place) => `${place % 2 ? "transparent" : style.colour} ${end}px ${end += 2 * length}px`);
  return `repeating-linear-gradient(90deg, ${stops.join(", ")})`;
}

function legendOf(methods, lines = false) {
  return element("ul", { class: "legend" }, methods.map((method) => {
    const mark = element("span", { class: "key", "aria-hidden": "true" });
    const paint = () => {
      const style = styleOf(method);
      mark.style.color = style.colour;
      mark.textContent = lines ? "" : { circle: "●", square: "■", "triangle-up": "▲", diamond: "◆", cross: "✚",
        "triangle-down": "▼", "triangle-right": "▶", "triangle-left": "◀" }[style.shape];
      if (lines) mark.style.background = dashed(style);
    };
    mark.classList.toggle("line", lines);
    redraws.add(paint);
    paint();
    return element("li", {}, mark, foreign(method));
  }));
}
