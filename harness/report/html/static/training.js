// What training did: the logs, and what is known to go wrong.
function trainingSection() {
  const { quantities, lines } = data.training;
  if (!quantities.length) return null;
  const several = seedsOf() > 1;
  const methods = others.concat(controls).filter((name) => lines.some((line) => line.method === name));
  const chosen = new Set(["rewards/chosen", "rewards/rejected", "rewards/accuracies", "generated/length", "kl", "logps/chosen", "rewards/margins", "loss"]);
  const shown = quantities.filter((quantity) => chosen.has(quantity.key)).slice(0, 6);
  const small = (quantity) => {
    const figure = chart(`${quantity.title} over training steps`, () => {
      const scales = methodScales(methods);
      const values = lines.filter((line) => line.key === quantity.key)
        .flatMap((line) => line.points.map(([step, value]) => ({ method: line.method, seed: line.seed, step, value })));
      return { height: 170, data: { values }, mark: { type: "line", strokeWidth: several ? 1.3 : 2, opacity: several ? 0.75 : 1, point: values.length < 40 ? { size: 14 } : false },
        encoding: { x: { field: "step", type: "quantitative", title: "step", axis: { tickMinStep: 1, tickCount: 6 } }, y: { field: "value", type: "quantitative", title: null, scale: { zero: false }, axis: { tickCount: 5 } },
          color: { field: "method", type: "nominal", scale: scales.colour, legend: null },
          strokeDash: { field: "method", type: "nominal", scale: scales.dash, legend: null }, detail: { field: "seed" },
          tooltip: [{ field: "method" }, { field: "seed" }, { field: "step" }, { field: "value", format: ".4~g" }] } };
    });
    return element("div", { class: "small" }, element("h3", {}, quantity.title), element("p", { class: "note" }, quantity.tells), figure);
  };
  const grid = element("div", { class: "grid" }, shown.map(small));
  const rest = quantities.filter((quantity) => !shown.includes(quantity));
  const more = rest.length ? element("details", {}, element("summary", {}, `More: ${rest.map((quantity) => quantity.title).join(", ")}`),
    element("div", { class: "grid" }, rest.map(small))) : null;
  return section("training", "What training did", several ? "One line a seed." : "", legendOf(methods, true), grid, more,
    element("h3", { id: "faults-title" }, "What is known to go wrong"), data.faults.map(fault));
}

function fault(each) {
  const state = each.shown.length ? element("span", { class: "tag warn" }, `seen in ${each.shown.length}`)
    : element("span", { class: "tag" }, each.cases.length ? "not seen" : "not measured");
  const cases = each.cases.map((row) => element("li", { class: row.shows ? "shows" : null }, row.shows ? "⚠ " : "", foreign(row.method), `: ${row.figures}`));
  const answers = each.examples.map((example) => element("div", { class: "example" },
    element("p", { class: "note" }, foreign(example.method), " on ", foreign(example.id)),
    foreign(example.prompt, "p", { class: "text prompt" }),
    element("div", { class: "pair" }, element("div", {}, element("h5", {}, foreign(example.method)), foreign(example.answer, "p", { class: "text" })),
      example.start ? element("div", {}, element("h5", {}, "start"), foreign(example.start, "p", { class: "text" })) : null)));
  const missing = data.samples.sets.length ? "No answers of the preference benchmark are stored." : data.samples.why_none;
  return element("details", { class: "fault", id: `fault-${each.id}`, open: each.shown.length > 0 },
    element("summary", {}, each.title, " ", state), element("p", {}, each.what),
    element("p", {}, element("strong", {}, "Look at: "), each.look), element("p", {}, element("strong", {}, "What helps: "), each.helps),
    cases.length ? element("ul", { class: "cases" }, cases) : null,
    element("h4", {}, each.shown.length ? "Answers that show it" : "The answers that come nearest to it here"),
    answers.length ? answers : element("p", { class: "note" }, missing || "No answers to show."));
}
