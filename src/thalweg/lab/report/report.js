const style = Object.fromEntries(data.optimizers.map((optimizer) => [optimizer.name, optimizer]));
const shown = Object.fromEntries(data.optimizers.map((optimizer) => [optimizer.name, true]));
const SETTLED = 0.3; // the first part of a curve does not widen the axis
const X = { step: "steps", charged: "gradient-equivalents", seconds: "CPU seconds" };
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;

/* Learning curves. */
const column = { validation: (task) => `${task.metric}, ${task.unit}`, validation_loss: () => "validation loss", train_loss: () => "training loss" };

function curves(task) {
  const x = chosen("x"), y = chosen("y"), everySeed = document.getElementById("seeds").checked, traces = [];
  const rows = task.curves.filter((curve) => shown[curve.optimizer]);
  const settled = (line) => line[y].slice(Math.ceil(line[y].length * SETTLED));
  const frame = view(rows.flatMap((row) => [...settled(row.median), ...row.seeds.filter((seed) => seed.state === "ok").flatMap(settled)]),
    { title: { text: column[y](task) } });
  for (const { optimizer, seeds, median } of rows) {
    const ink = style[optimizer].colour;
    for (const seed of everySeed ? seeds : []) {
      traces.push({ x: seed[x], y: seed[y], mode: "lines", line: { color: faded(ink, 0.3), width: 1 }, hoverinfo: "skip" });
      const last = seed[y].findLastIndex((value) => value !== null);
      if (seed.state !== "ok" && last >= 0)
        traces.push({ x: [seed[x][last]], y: [Math.min(Math.max(seed[y][last], frame.low), frame.high)], mode: "markers", marker: { symbol: "x", size: 9, color: colour("--bad") },
          name: optimizer, hovertemplate: `<b>${optimizer}</b> seed ${seed.seed}: ${seed.state}<extra></extra>` });
    }
    traces.push({ x: median[x], y: median[y], mode: "lines", line: { color: ink, width: 2.8 }, name: optimizer,
      hovertemplate: `<b>${optimizer}</b> median %{y:.4g}<br>%{x:.4g} ${X[x]}<extra></extra>` });
  }
  return { traces, xaxis: axis({ title: { text: X[x] }, rangemode: "tozero" }), yaxis: frame.axis };
}

function curveRows(task) {
  const names = ["step", "charged", "seconds", "train_loss", "validation_loss", "validation"];
  return [["optimizer", "seed", "state", ...names], ...task.curves.flatMap((curve) => curve.seeds.flatMap((seed) =>
    seed.step.map((_, i) => [curve.optimizer, seed.seed, seed.state, ...names.map((name) => seed[name][i])])))];
}

/* Learning-rate sensitivity: the response above, one row an optimizer below. */
function sensitivity(task) {
  const traces = [], rows = task.sensitivity.filter((row) => shown[row.optimizer]);
  const sign = task.better === "max" ? -1 : 1, values = rows.flatMap((row) => row.value.filter((value) => value !== null)).sort((one, other) => sign * (one - other));
  const frame = view(values.slice(0, Math.ceil(values.length * 0.75)), { title: { text: `${task.metric}, ${task.unit}` }, domain: [0.42, 1] });
  for (const row of rows) {
    const { colour: ink, symbol } = style[row.optimizer], lane = { yaxis: "y2", hoverinfo: "skip", mode: "lines" };
    traces.push({ x: row.lr, y: row.value, mode: "lines+markers", line: { color: ink, width: 2 }, marker: { color: ink, symbol, size: 8 }, connectgaps: false,
      text: row.point, hovertemplate: `<b>${row.optimizer}</b> %{y:.4g}<br>%{text}<extra></extra>` });
    traces.push({ ...lane, x: row.searched, y: [row.optimizer, row.optimizer], line: { color: faded(ink, 0.45), width: 1.5 } });
    if (row.usable) traces.push({ ...lane, x: row.usable, y: [row.optimizer, row.optimizer], line: { color: faded(ink, 0.6), width: 9 } });
    if (row.selected) traces.push({ yaxis: "y2", x: [row.selected], y: [row.optimizer], mode: "markers", marker: { color: ink, size: 10, line: { color: colour("--card"), width: 2 } },
      hovertemplate: `<b>${row.optimizer}</b> selected lr %{x:.3g}<br>usable width ${row.decades ?? "none"} decades<extra></extra>` });
    const failed = row.lr.map((lr, i) => i).filter((i) => row.value[i] === null);
    traces.push({ yaxis: "y2", x: failed.map((i) => row.lr[i]), y: failed.map(() => row.optimizer), mode: "markers", marker: { symbol: "x", size: 8, color: colour("--bad") },
      text: failed.map((i) => `${row.state[i]}<br>${row.point[i]}`), hovertemplate: `<b>${row.optimizer}</b> %{text}<extra></extra>` });
  }
  const widths = rows.map((row) => ({ xref: "paper", x: 1, xanchor: "right", yref: "y2", y: row.optimizer, showarrow: false, xshift: 62,
    text: row.decades === null ? "none" : `${row.decades} dec.`, font: { size: 11.5 } }));
  return { traces, annotations: widths, margin: { l: 58, r: 74, t: 8, b: 44 },
    xaxis: axis({ type: "log", title: { text: "learning rate" }, anchor: "y2", dtick: 1, exponentformat: "power" }),
    yaxis: frame.axis,
    yaxis2: axis({ domain: [0, 0.36], type: "category", autorange: "reversed", showgrid: false }) };
}

const sensitivityRows = (task) => [["optimizer", "lr", "value", "state"], ...task.sensitivity.flatMap((row) => row.lr.map((lr, i) => [row.optimizer, lr, row.value[i], row.state[i]]))];

/* Final results: every seed, the median, its interval; failures in a lane of their own. */
function finals(task) {
  const traces = [], rows = task.finals.filter((row) => shown[row.optimizer]).reverse();
  rows.forEach((row, i) => {
    const { colour: ink } = style[row.optimizer], ok = row.value.map((_, k) => k).filter((k) => row.value[k] !== null);
    const jitter = (k) => i - 0.22 + (0.44 * (k + 0.5)) / row.value.length;
    traces.push({ x: ok.map((k) => row.value[k]), y: ok.map(jitter), mode: "markers", marker: { color: faded(ink, 0.75), size: 7 },
      text: ok.map((k) => row.seed[k]), hovertemplate: `<b>${row.optimizer}</b> seed %{text}: %{x:.5g}<extra></extra>` });
    if (row.low !== null && row.high !== null) traces.push({ x: [row.low, row.high], y: [i, i], mode: "lines", line: { color: ink, width: 3 }, hoverinfo: "skip" });
    if (row.median !== null) traces.push({ x: [row.median], y: [i], mode: "markers", marker: { symbol: "line-ns", size: 20, line: { color: ink, width: 3 } },
      hovertemplate: `<b>${row.optimizer}</b> median %{x:.5g}<extra></extra>` });
    const failed = row.value.map((_, k) => k).filter((k) => row.value[k] === null);
    traces.push({ xaxis: "x2", x: failed.map(() => 0.5), y: failed.map(jitter), mode: "markers", marker: { symbol: "x", size: 8, color: colour("--bad") },
      text: failed.map((k) => `seed ${row.seed[k]}: ${row.state[k]}`), hovertemplate: `<b>${row.optimizer}</b> %{text}<extra></extra>` });
  });
  const higher = task.better === "max", failures = rows.some((row) => row.value.includes(null));
  const domain = !failures ? [0, 1] : higher ? [0.1, 1] : [0, 0.9];
  return { traces,
    xaxis: axis({ title: { text: `${task.metric}, ${task.unit} (${higher ? "right" : "left"} is better)` }, domain }),
    xaxis2: axis({ domain: higher ? [0, 0.07] : [0.93, 1], range: [0, 1], showgrid: false, visible: failures, tickvals: [0.5], ticktext: ["failed"] }),
    yaxis: axis({ tickvals: rows.map((_, i) => i), ticktext: rows.map((row) => row.optimizer), range: [-0.6, rows.length - 0.4] }) };
}

const finalRows = (task) => [["optimizer", "seed", "value", "state"], ...task.finals.flatMap((row) => row.value.map((value, k) => [row.optimizer, row.seed[k], value, row.state[k]]))];

/* P(improvement) over a reference, all tasks together. */
function improvement(block) {
  const rows = block.rows.filter((row) => shown[row.optimizer]).sort((one, other) => one.middle - other.middle);
  return {
    traces: rows.map((row, i) => ({ x: [row.middle], y: [i], mode: "markers", marker: { color: style[row.optimizer].colour, size: 11 },
      error_x: { type: "data", symmetric: false, array: [row.high - row.middle], arrayminus: [row.middle - row.low], color: style[row.optimizer].colour, thickness: 2.5, width: 0 },
      hovertemplate: `<b>${row.optimizer}</b> %{x:.2f} [${row.low.toFixed(2)}, ${row.high.toFixed(2)}]<extra></extra>` })),
    shapes: [{ type: "line", x0: 0.5, x1: 0.5, yref: "paper", y0: 0, y1: 1, line: { color: colour("--soft"), width: 1, dash: "dot" } }],
    xaxis: axis({ range: [-0.02, 1.02], title: { text: `chance that a run beats a run of ${block.reference}, mean over tasks` } }),
    yaxis: axis({ tickvals: rows.map((_, i) => i), ticktext: rows.map((row) => row.optimizer), range: [-0.6, rows.length - 0.4] }),
  };
}

for (const block of data.improvement)
  if (block.rows.length) figure("improvement", `P(better than ${block.reference})`, () => improvement(block), () => [["optimizer", "p", "low", "high"], ...block.rows.map((row) => [row.optimizer, row.middle, row.low, row.high])]);
for (const task of data.tasks) {
  figure("curve-figures", task.name, () => curves(task), () => curveRows(task));
  if (document.getElementById("sensitivity-figures")) figure("sensitivity-figures", task.name, () => sensitivity(task), () => sensitivityRows(task));
  figure("final-figures", task.name, () => finals(task), () => finalRows(task));
}
for (const optimizer of data.optimizers) {
  const button = document.getElementById("legend").appendChild(document.createElement("button"));
  button.type = "button";
  button.textContent = optimizer.name;
  button.style.setProperty("--colour", optimizer.colour);
  button.setAttribute("aria-pressed", "true");
  button.onclick = () => {
    shown[optimizer.name] = !shown[optimizer.name];
    button.setAttribute("aria-pressed", String(shown[optimizer.name]));
    render();
  };
}
for (const input of document.querySelectorAll(".controls input")) input.addEventListener("change", render);
render();
