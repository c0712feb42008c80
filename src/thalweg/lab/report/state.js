/* What the reader has chosen, and how an optimizer looks in every figure. */
const style = Object.fromEntries(data.optimizers.map((optimizer) => [optimizer.name, { ...optimizer, label: safe(optimizer.name) }]));
const shown = Object.fromEntries(data.optimizers.map((optimizer) => [optimizer.name, true]));
const X = { step: "steps", charged: "gradient-equivalents", seconds: "CPU seconds" };
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const seen = (rows) => rows.filter((row) => shown[row.optimizer]);
const line = (optimizer, extra) => ({ color: style[optimizer].colour, width: 2.4, dash: style[optimizer].dash, ...extra });
const measured = (task) => `${safe(task.metric)}, ${safe(task.unit)}`;
const metric = (task, title = measured(task)) => ({ title: { text: title }, ...(task.better === "max" && { type: "linear" }) }); // of shares, not of losses

const LANE = 17; // pixels, so that names one below the other can be read

/* One row an optimizer: an axis that names them, and the height that it needs. */
const lanes = (rows) => axis({ tickvals: rows.map((_, i) => i), ticktext: rows.map((row) => style[row.optimizer].label), range: [-0.6, rows.length - 0.4] });
const room = (rows) => LANE * rows.length + 60;

/* Estimates with their intervals, the best above. */
function forest(found, title, extra) {
  const rows = seen(found).sort((one, other) => one.middle - other.middle);
  return {
    traces: rows.map((row, i) => ({ x: [row.middle], y: [i], mode: "markers", marker: { color: style[row.optimizer].colour, size: 11 },
      error_x: { type: "data", symmetric: false, array: [row.high - row.middle], arrayminus: [row.middle - row.low], color: style[row.optimizer].colour, thickness: 2.5, width: 0 },
      hovertemplate: `<b>${style[row.optimizer].label}</b> %{x:.3g} [${row.low.toPrecision(3)}, ${row.high.toPrecision(3)}]<extra></extra>` })),
    shapes: [{ type: "line", x0: extra.at, x1: extra.at, yref: "paper", y0: 0, y1: 1, line: { color: colour("--soft"), width: 1, dash: "dot" } }],
    xaxis: axis({ title: { text: title }, ...extra.xaxis }), yaxis: lanes(rows), needs: room(rows),
  };
}
const forestRows = (rows) => [["optimizer", "estimate", "low", "high"], ...rows.map((row) => [row.optimizer, row.middle, row.low, row.high])];
