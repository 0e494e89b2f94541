// The sample browser. Answers are compressed in the page and unpacked when a benchmark is opened.
const unpacked = new Map();
async function unpack(place) {
  if (!unpacked.has(place)) {
    const bytes = Uint8Array.from(atob(document.getElementById(`samples-${place}`).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    unpacked.set(place, JSON.parse(await new Response(stream).text()));
  }
  return unpacked.get(place);
}

function flipOf(a, b) {
  if (!a || !b || a.value === null || b.value === null || a.value === undefined || b.value === undefined) return "not comparable";
  if (Math.abs(a.value - b.value) < 1e-9) return "equal";
  return a.value > b.value ? "A better" : "B better";
}

function samplesSection() {
  const sets = data.samples.sets;
  const why = data.samples.why_none ? element("p", { class: "warning" }, data.samples.why_none) : null;
  if (!sets.length) return section("samples", "Samples", null, why);
  const state = { set: 0, a: "", b: "", category: "", verdict: "", flip: "", open: -1 };
  const fields = element("div", { class: "fields" });
  const holder = element("div");
  const reader = element("div", { class: "reader", tabindex: "-1", "aria-live": "polite" });
  let grid = null, content = null, shownRows = [];

  async function open(place) {
    state.set = place;
    const runs = sets[place].runs;
    state.a = runs.find((run) => run.split(" · ")[0] !== "start" && run.split(" · ")[0] !== data.reference) || runs[0];
    state.b = runs.find((run) => run.split(" · ")[0] === data.reference) || runs.find((run) => run !== state.a) || runs[0];
    state.category = state.verdict = state.flip = "";
    content = await unpack(place);
    controls();
    list();
  }

  function controls() {
    const set = sets[state.set];
    const change = (name) => (value) => { state[name] = value; list(); };
    const runs = set.runs.map((run) => [run, run]);
    const categories = [...new Set(content.items.map((item) => item.category).filter(Boolean))].sort();
    const verdicts = [...new Set(set.runs.flatMap((run) => content.answers[run].map((answer) => answer?.verdict).filter(Boolean)))].sort();
    const any = [["", "any"]];
    fields.replaceChildren(
      field("Benchmark", select(sets.map((each, place) => [String(place), `${each.title} (${each.count})`]), String(state.set), (value) => open(Number(value)))),
      field("A", select(runs, state.a, change("a"))), field("B", select(runs, state.b, change("b"))),
      categories.length ? field("Category", select(any.concat(categories.map((each) => [each, each])), "", change("category"))) : "",
      field("Verdict of A", select(any.concat(verdicts.map((each) => [each, each])), "", change("verdict"))),
      field("Flips", select(any.concat(["A better", "B better", "equal", "not comparable"].map((each) => [each, each])), "", change("flip"))));
  }

  function list() {
    const a = content.answers[state.a], b = content.answers[state.b];
    shownRows = content.items.map((item, place) => ({ place, item, a: a[place], b: b[place], flip: flipOf(a[place], b[place]) }))
      .filter((row) => (!state.category || row.item.category === state.category) && (!state.verdict || row.a?.verdict === state.verdict)
        && (!state.flip || row.flip === state.flip));
    if (grid) { grid.destroy(true); grid = null; }
    const categorised = content.items.some((item) => item.category);
    const node = element("table", { id: "samples-table" }, element("caption", { class: "hidden" }, "Samples"),
      element("thead", {}, element("tr", {}, ["item", ...(categorised ? ["category"] : []), "prompt", "A", "B", "flip"].map((name) => element("th", { scope: "col" }, name)))));
    holder.replaceChildren(scrolling("Samples", node));
    // Values for search and order are strings of ours; what is shown is an element with text alone.
    const column = (text, order) => ({ data: null, render: (_, kind, row) => kind === "display" ? foreign(text(row)) : kind === "sort" || kind === "type" ? (order || text)(row) : text(row) });
    const worded = (answer) => !answer ? "none" : answer.value === null || answer.value === undefined ? answer.verdict : answer.verdict === "scored" ? number(answer.value) : `${number(answer.value)} ${answer.verdict}`;
    const opener = { data: null, render: (_, kind, row) => kind === "display"
      ? element("button", { type: "button", class: "open", on: { click: () => show(row.place, true) } }, foreign(row.item.id)) : String(row.item.id) };
    grid = table(node, { data: shownRows, paging: true, pageLength: 8, searching: true, info: true, deferRender: true, order: [],
      language: { search: "Search prompts", emptyTable: "No sample fits these filters." },
      layout: { topStart: "search", bottomStart: "info", bottomEnd: "paging" },
      columns: [opener, ...(categorised ? [column((row) => row.item.category)] : []), column((row) => shorten(row.item.prompt.join(" ⏎ "), 110)),
        column((row) => worded(row.a), (row) => row.a?.value ?? -1e9), column((row) => worded(row.b), (row) => row.b?.value ?? -1e9), column((row) => row.flip)] });
    show(shownRows.length ? shownRows[0].place : -1, false);
  }

  function answerOf(letter, run, answer) {
    if (!answer) return element("article", { class: "answer" }, element("h4", {}, `${letter}: `, foreign(run)), element("p", { class: "note" }, "No answer stored."));
    const facts = [answer.verdict, answer.value === null || answer.value === undefined ? null : `${number(answer.value)} ${sets[state.set].unit}`.trim(),
      answer.tokens === undefined ? null : `${answer.tokens} tokens`, answer.cut ? "cut at the longest length" : null].filter(Boolean);
    const judged = answer.judgments?.length ? element("div", { class: "judged" }, element("h5", {}, "Verdicts"),
      answer.judgments.map((each) => element("div", {}, element("p", {}, element("strong", {}, `${each.which}: `), foreign(each.verdict)),
        each.reason ? element("details", {}, element("summary", {}, "What the judge wrote"), foreign(each.reason, "p", { class: "text" })) : null))) : null;
    return element("article", { class: "answer" }, element("h4", {}, `${letter}: `, foreign(run)), element("p", { class: "facts" }, facts.join(" · ")),
      answer.text.map((part) => foreign(part, "p", { class: "text" })), judged);
  }

  function show(place, focus) {
    state.open = place;
    if (place < 0) { reader.replaceChildren(element("p", { class: "note" }, "No sample fits these filters.")); return; }
    const item = content.items[place];
    const where = shownRows.findIndex((row) => row.place === place);
    const go = (step) => { const next = shownRows[where + step]; if (next) show(next.place, true); };
    const prompt = item.prompt.length ? item.prompt.map((part) => foreign(part, "p", { class: "text prompt" }))
      : element("p", { class: "note" }, "The prompt was not stored by the version that made these answers.");
    reader.replaceChildren(element("div", { class: "reader-head" }, element("h3", {}, foreign(item.id), item.category ? [" · ", foreign(item.category)] : null),
      element("span", {}, element("button", { type: "button", class: "step", disabled: where <= 0, on: { click: () => go(-1) } }, "← Previous"),
        element("button", { type: "button", class: "step", disabled: where + 1 >= shownRows.length, on: { click: () => go(1) } }, "Next →"))),
      element("div", {}, prompt),
      element("div", { class: "pair" }, answerOf("A", state.a, content.answers[state.a][place]), answerOf("B", state.b, content.answers[state.b][place])));
    if (focus) reader.focus({ preventScroll: false });
  }
  reader.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
    const where = shownRows.findIndex((row) => row.place === state.open);
    if (step && shownRows[where + step] && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); show(shownRows[where + step].place, true); }
  });

  const part = section("samples", "Samples",
    "A and B are two runs on the same prompts. A flip is a prompt on which one of them scores better. In an open sample the arrow keys (or j and k) go on and back.",
    why, fields, holder, reader);
  part.start = () => open(0);
  return part;
}

function shorten(text, length) { return text.length > length ? `${text.slice(0, length)} …` : text; }
