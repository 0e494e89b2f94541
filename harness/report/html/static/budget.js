// Rank at my budget: read the curves where the slider stands.
const MANY = 6; // with more methods, bands and crossings of all of them would hide the curves

function budgetSection() {
  const ranks = data.ranks;
  if (!ranks) {
    return section("budget", "Rank at my budget",
      "Not available: it needs rewards on the way, from the benchmark curve, of at least two trained methods. Add curve to the recipe's benchmarks.");
  }
  const methods = Object.keys(ranks.bands);
  const show = (budget) => `${amount(budget)} ${ranks.axis}`;
  const hours = ranks.hours ? 1 / 3600 : 1;
  const budgets = ranks.budgets.map((budget) => budget * hours);
  const rows = methods.flatMap((method) => ranks.bands[method].map((band, place) => ({ method, budget: budgets[place], ...band })));
  const slider = element("input", { type: "range", min: 0, max: budgets.length - 1, value: budgets.length - 1, id: "budget-slider", step: 1 });
  const shown = element("output", { for: "budget-slider", class: "shown" });
  const ordered = (place) => methods.filter((method) => ranks.bands[method][place])
    .sort((a, b) => ranks.bands[b][place].value - ranks.bands[a][place].value);
  const banded = (place) => methods.length > MANY ? ordered(place).slice(0, 3) : methods;
  const list = element("ol", { class: "ranks", "aria-live": "polite" });

  const drawn = methods.length > MANY ? ranks.crossings.filter((each) => each.leads) : ranks.crossings;
  const figure = chart("Reward over the budget, with bands", () => {
    const scales = methodScales(methods);
    const x = { field: "budget", type: "quantitative", title: `budget (${ranks.axis})`, axis: shortAxis(), scale: { nice: false } };
    const colour = { field: "method", type: "nominal", scale: scales.colour, legend: null };
    const y = { type: "quantitative", title: ranks.reward, scale: { zero: false } };
    return { height: 340, params: [{ name: "chosen", value: budgets[slider.value] }, { name: "banded", value: banded(Number(slider.value)) }], data: { values: rows }, layer: [
      { transform: [{ filter: "indexof(banded, datum.method) >= 0" }], mark: { type: "area", opacity: 0.08 }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color: colour } },
      { mark: { type: "line", strokeWidth: 2.5 }, encoding: { x, y: { ...y, field: "value" }, color: colour,
        strokeDash: { field: "method", type: "nominal", scale: scales.dash, legend: null } } },
      { data: { values: drawn.map((each) => ({ at: each.at * hours })) }, mark: { type: "rule", strokeDash: [2, 3], color: palette().quiet, opacity: 0.8 },
        encoding: { x: { ...x, field: "at" } } },
      { data: { values: [{}] }, mark: { type: "rule", strokeWidth: 2, color: palette().ink }, encoding: { x: { ...x, field: "at" } }, transform: [{ calculate: "chosen", as: "at" }] },
    ] };
  });

  const update = () => {
    const place = Number(slider.value);
    shown.textContent = show(budgets[place]);
    slider.setAttribute("aria-valuetext", show(budgets[place]));
    figure.signal("chosen", budgets[place]);
    figure.signal("banded", banded(place));
    list.replaceChildren(...ordered(place).map((method) => element("li", {},
      element("span", { class: "who" }, swatch(method), foreign(method)),
      element("span", { class: "range" }, interval(ranks.bands[method][place], "share met")),
      element("span", { class: "chance" }, `best in ${Math.round(100 * ranks.best[method][place])}% of resamples`))));
  };
  slider.addEventListener("input", update);
  update();

  const first = [...ranks.crossings.filter((each) => each.leads), ...ranks.crossings.filter((each) => !each.leads)];
  const crossings = first.map((each) => element("li", {}, "At ", element("strong", {}, show(each.at * hours)), " ", foreign(each.ahead),
    " passes ", foreign(each.behind), element("span", { class: "note" }, `: still ahead at the end in ${Math.round(100 * each.agree)}% of resamples`)));
  return section("budget", "Rank at my budget",
    `Rewards on the way, by straight lines between the shares of the budget at which policies were kept. Bands: 95% intervals of ${
      methods.length > MANY ? "the three best at your budget; dotted lines: where the lead changes" : "each curve"}. Methods share their prompts, so two can differ although their bands overlap.`,
    element("div", { class: "slider" }, element("label", { for: "budget-slider" }, "My budget"), slider, shown),
    element("div", { class: "two" }, element("div", {}, legendOf(methods, true), figure),
      element("div", {}, element("h3", {}, "Order at this budget"), list,
        element("h3", {}, "Where two cross"), crossings.length ? [element("ul", { class: "crossings" }, crossings.slice(0, 6)), crossings.length > 6
            ? element("details", {}, element("summary", {}, `${crossings.length - 6} more`), element("ul", { class: "crossings" }, crossings.slice(6))) : null]
          : element("p", { class: "note" }, "No two methods change places within this budget."))),
    numbers("Rewards over the budget", ["method", ...ranks.measured.map((budget) => show(budget * hours))],
      methods.map((method) => [method, ...ranks.measured.map((budget) => {
        const near = ranks.budgets.reduce((best, each, place) => Math.abs(each - budget) < Math.abs(ranks.budgets[best] - budget) ? place : best, 0);
        return interval(ranks.bands[method][near], "share met");
      })])));
}
