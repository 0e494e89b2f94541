// Light and dark, and a colour and a shape for each method. Colours: Okabe and Ito, told apart by the colour-blind.
const PALETTES = {
  light: { ink: "#1a1d21", quiet: "#5a626c", line: "#d5d9de", paper: "#ffffff",
    methods: ["#0072b2", "#d55e00", "#00805c", "#b0518a", "#a97400", "#2a8fc7", "#6a4fb0", "#8a3b12"], control: "#6b7178" },
  dark: { ink: "#eceff3", quiet: "#a9b2bd", line: "#39414b", paper: "#14181d",
    methods: ["#56b4e9", "#ff8a3d", "#2fc79a", "#e59ac6", "#f0c04a", "#8fd0f5", "#b9a3f0", "#e0916a"], control: "#a9b2bd" },
};
const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"];
const DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 4], [1, 3], [12, 3]];

function storedTheme() { try { return localStorage.getItem("sail-bench-theme"); } catch { return null; } }
let theme = storedTheme() || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
const redraws = new Set();

function palette() { return PALETTES[theme]; }

function applyTheme() {
  document.documentElement.dataset.theme = theme;
  document.documentElement.classList.toggle("dark", theme === "dark");
  const button = document.getElementById("theme");
  button.textContent = theme === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-label", `Switch to the ${theme === "dark" ? "light" : "dark"} theme`);
  for (const redraw of redraws) redraw();
}

document.getElementById("theme").addEventListener("click", () => {
  theme = theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("sail-bench-theme", theme); } catch { /* a page from disk may keep nothing */ }
  applyTheme();
});

const controls = data.methods.filter((method) => method.role === "control").map((method) => method.name);
const others = data.methods.map((method) => method.name).filter((name) => !controls.includes(name));

function styleOf(method) {
  const colours = palette().methods;
  const place = others.indexOf(method);
  if (place < 0) {
    const number = Math.max(0, controls.indexOf(method));
    return { colour: palette().control, shape: SHAPES[(number + 4) % SHAPES.length], dash: [3, 3] };
  }
  const round = Math.floor(place / colours.length);
  return { colour: colours[place % colours.length], shape: SHAPES[(place + 3 * round) % SHAPES.length],
    dash: DASHES[(place + 2 * round) % DASHES.length] };
}

// Scales of a chart that give each of these methods its colour, shape and dash.
function methodScales(methods) {
  const styles = methods.map(styleOf);
  return { colour: { domain: methods, range: styles.map((style) => style.colour) },
    shape: { domain: methods, range: styles.map((style) => style.shape) },
    dash: { domain: methods, range: styles.map((style) => style.dash) } };
}

function swatch(method) {
  const mark = element("span", { class: "swatch", "aria-hidden": "true" });
  const paint = () => { mark.style.background = styleOf(method).colour; };
  redraws.add(paint);
  paint();
  return mark;
}
