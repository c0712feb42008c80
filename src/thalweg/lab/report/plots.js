/* What the figures of every page share: colours, axes, cards with their data, drawing. The page's own script follows. */
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const charts = []; // every figure: {element, draw}, redrawn whole when a control or the colours change
const SLICE = 1000; // milliseconds of drawing before the page may answer
const MOST_ROWS = 300; // of a figure's data shown as a table

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const faded = (hex, part) => hex + Math.round(part * 255).toString(16).padStart(2, "0");

function axis(extra) {
  return { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, automargin: true, ...extra };
}

function layout(extra) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    margin: { l: 58, r: 16, t: 8, b: 44 }, font: { family: "system-ui, sans-serif", size: 12.5, color: colour("--soft") },
    hoverlabel: { font: { family: "system-ui, sans-serif" } }, ...extra,
  };
}

/* Plotly reads names as markup: what they hold is shown, not obeyed. */
const safe = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function add(kind, parent, text, attributes) {
  const element = parent.appendChild(document.createElement(kind));
  element.append(text);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  return element;
}

function figure(parent, title, draw, rows) {
  const card = add("figure", document.getElementById(parent), "", { class: "figure" });
  const head = add("figcaption", card, title);
  add("button", head, "data as CSV", { type: "button", "aria-label": `data of ${title} as CSV` }).onclick = () => download(`${title}.csv`, rows());
  const element = add("div", card, "", { class: "plot", role: "img", "aria-label": `Figure: ${title}. Its data follow as a table.` });
  const details = add("details", card, "", { class: "rows" });
  add("summary", details, "data as a table");
  details.ontoggle = () => details.open && details.children.length === 1 && tabulate(details, rows());
  charts.push({ element, draw });
}

function tabulate(details, [names, ...rows]) {
  const frame = add("div", details, "", { class: "scroll", tabindex: 0, role: "region", "aria-label": "data of the figure" });
  const table = add("table", frame, "");
  const line = (kind, cells, where) => { const row = add("tr", where, ""); for (const cell of cells) add(kind, row, cell ?? "–"); };
  line("th", names, add("thead", table, ""));
  const body = add("tbody", table, "");
  for (const row of rows.slice(0, MOST_ROWS)) line("td", row, body);
  if (rows.length > MOST_ROWS) add("p", details, `The first ${MOST_ROWS} of ${rows.length} rows; the CSV has all.`, { class: "quiet" });
}

function download(name, rows) {
  const quoted = (value) => (/[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([rows.map((row) => row.map(quoted).join(",")).join("\n")], { type: "text/csv" }));
  link.download = name.replaceAll(/[^\w.-]+/g, "-");
  link.click();
  URL.revokeObjectURL(link.href);
}

function redraw({ element, draw }) {
  const { traces, needs = 0, ...rest } = draw();
  element.style.minHeight = `${needs}px`;
  const { clientWidth: width, clientHeight: height } = element;
  Plotly.react(element, traces, layout({ width, height, ...rest }), { displayModeBar: false });
}

const undrawn = new Set(); // figures to be drawn
let timer = null;

function render() {
  for (const chart of charts) undrawn.add(chart);
  work(SLICE);
}

/* Draw what waits, what is in sight first, for a while; the rest after the page has answered. */
function work(patience) {
  clearTimeout(timer);
  const away = ({ element }) => { const { top, bottom } = element.getBoundingClientRect(); return Math.max(0, top - innerHeight, -bottom); };
  const end = performance.now() + patience;
  for (const chart of [...undrawn].sort((one, other) => away(one) - away(other))) {
    if (performance.now() > end) break;
    undrawn.delete(chart);
    redraw(chart);
  }
  if (undrawn.size) timer = setTimeout(work, 20, SLICE / 10);
}

/* The range of an axis: what matters fills it, what lies far off leaves the frame. Logarithmic when it spans much, unless told. */
function view(values, extra) {
  const known = values.filter((value) => value !== null), low = Math.min(...known), high = Math.max(...known);
  const log = extra.type !== "linear" && low > 0 && high / low > 20, scale = log ? Math.log10 : (value) => value;
  const pad = 0.05 * (scale(high) - scale(low)) || 0.5;
  return { low, high, axis: axis({ type: log ? "log" : "linear", ...(known.length ? { range: [scale(low) - pad, scale(high) + pad] } : {}), ...(log ? { dtick: "D1" } : {}), ...extra }) };
}

/* Colours: the system's, until the button says otherwise. Print is light, and as wide as paper. */
const THEMES = ["auto", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement, themed = document.getElementById("theme");
let theme = "auto";

function paint(wanted) {
  root.dataset.theme = wanted === "auto" ? (dark.matches ? "dark" : "light") : wanted;
}

themed.onclick = () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  themed.textContent = `theme: ${theme}`;
  paint(theme);
  render();
};
dark.addEventListener("change", () => { paint(theme); render(); });

/* A jump to a section ends below the bar where that stays in sight, however many lines the legend has. */
new ResizeObserver(([{ target }]) => { root.style.scrollPaddingTop = `${16 + (getComputedStyle(target).position === "sticky" ? target.offsetHeight : 0)}px`; }).observe(document.querySelector("nav"));

function onPaper(on) {
  root.classList.toggle("printing", on);
  paint(on ? "light" : theme);
  for (const chart of charts) undrawn.add(chart);
  work(on ? Infinity : SLICE);
}
let wide = innerWidth;
addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; render(); } });
addEventListener("beforeprint", () => onPaper(true));
addEventListener("afterprint", () => onPaper(false));
