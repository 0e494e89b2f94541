// The page in order. What is far down waits until the first screen is there.
const starts = [];

function summarySection() {
  const board = boardTable();
  starts.push(board);
  const failures = data.failures.length ? element("div", { class: "warning" }, element("strong", {}, "Failed: "),
    data.failures.map((each) => [foreign(each.method), ` seed ${each.seed}: `, foreign(each.why), " "])) : null;
  const limit = data.costs.matched === "seconds" ? data.budget.limit / data.costs.time : data.budget.limit;
  const axis = data.costs.axes.find((each) => each.id === data.costs.matched)?.title ?? data.costs.matched;
  const budget = `Budget ${data.budget.name}: ${amount(limit)} ${axis}${seedsOf() > 1 ? `, ${seedsOf()} seeds` : ", one seed"}`;
  return element("section", { id: "summary", "aria-labelledby": "summary-title" },
    element("h1", { id: "summary-title" }, foreign(data.recipe), element("span", { class: "budget" }, budget)),
    element("div", { class: "verdict" }, data.sentences.map(sentence)),
    failures, board, explain());
}

function aboutSection() {
  const rows = data.methods.map((method) => [method.name, method.summary, method.options, method.learning_rate.join(", "), method.seeds.join(", ")]);
  const protocols = [...new Map(data.columns.map((column) => [`${column.benchmark} ${column.protocol}`, [column.benchmark, column.label, column.protocol]])).values()];
  return section("about", "Methods and protocols", null, element("p", {}, foreign(data.description)),
    numbers("Methods", ["method", "what it is", "options", "learning rate", "seeds"], rows, "Methods and their options"),
    numbers("Protocols", ["benchmark", "label", "protocol"], protocols, "Protocols"),
    element("ul", { class: "note" }, data.environment.map((line) => element("li", {}, foreign(line)))));
}

const parts = [summarySection(), costSection(), budgetSection(), distanceSection(), winsSection(), categoriesSection(), spendingSection(),
  judgesSection(), trainingSection(), samplesSection(), aboutSection()].filter(Boolean);
document.getElementById("main").append(...parts);
document.getElementById("nav").append(...parts.map((part) => element("a", { href: `#${part.id}` },
  { summary: "Summary", cost: "Cost", budget: "My budget", distance: "KL", wins: "Wins", categories: "Categories", spending: "Spending",
    judges: "Judge", training: "Training", samples: "Samples", about: "Methods" }[part.id])));
document.getElementById("footer").append(element("p", {}, "Made by sail-bench report. Charts and tables by ",
  data.libraries.map((each) => `${each.title} (${each.package} ${each.version})`).join("; "), ". This file asks the network for nothing."));
applyTheme();
for (const part of starts) part.start();
document.documentElement.dataset.ready = "board";
performance.mark("first screen");
const later = window.requestIdleCallback || ((work) => setTimeout(work, 1));
later(async () => { for (const part of parts) await part.start?.(); document.documentElement.dataset.ready = "all"; });
