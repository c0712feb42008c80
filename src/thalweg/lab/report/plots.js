/* What the figures of every page share: axes, cards with their data, drawing. The page's own script follows. */
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const charts = []; // every figure: {element, draw}, redrawn whole when a control or the colour scheme changes

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

function figure(parent, title, draw, rows) {
  const card = document.createElement("div");
  card.className = "figure";
  const head = card.appendChild(document.createElement("h4"));
  head.append(title);
  const button = head.appendChild(document.createElement("button"));
  button.type = "button";
  button.textContent = "data as CSV";
  button.onclick = () => download(`${title}.csv`, rows());
  const element = card.appendChild(document.createElement("div"));
  element.className = "plot";
  document.getElementById(parent).append(card);
  charts.push({ element, draw });
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
  const { traces, ...rest } = draw();
  Plotly.react(element, traces, layout(rest), { responsive: true, displayModeBar: false });
}

function render() {
  charts.forEach(redraw);
}

/* The range of an axis: what matters fills it, what lies far off leaves the frame. Logarithmic when it spans much. */
function view(values, extra) {
  const known = values.filter((value) => value !== null), low = Math.min(...known), high = Math.max(...known);
  const log = low > 0 && high / low > 20, scale = log ? Math.log10 : (value) => value;
  const pad = 0.05 * (scale(high) - scale(low)) || 0.5;
  return { low, high, axis: axis({ type: log ? "log" : "linear", range: [scale(low) - pad, scale(high) + pad], ...(log ? { dtick: "D1" } : {}), ...extra }) };
}

dark.addEventListener("change", render);
