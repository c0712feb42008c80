/* Learning-rate sensitivity: the response above, one row an optimizer below. */
function sensitivity(task) {
  const traces = [], rows = seen(task.sensitivity), needs = LANE * rows.length + 300, below = 1 - 300 / needs;
  const sign = task.better === "max" ? -1 : 1, values = rows.flatMap((row) => row.value.filter((value) => value !== null)).sort((one, other) => sign * (one - other));
  const frame = view(values.slice(0, Math.ceil(values.length * 0.75)), { ...metric(task), domain: [below + 0.06, 1] });
  for (const row of rows) {
    const { colour: ink, symbol, label } = style[row.optimizer], lane = { yaxis: "y2", hoverinfo: "skip", mode: "lines" };
    traces.push({ x: row.lr, y: row.value, mode: "lines+markers", line: line(row.optimizer, { width: 2 }), marker: { color: ink, symbol, size: 8 }, connectgaps: false,
      text: row.point, hovertemplate: `<b>${label}</b> %{y:.4g}<br>%{text}<extra></extra>` });
    traces.push({ ...lane, x: row.searched, y: [label, label], line: { color: faded(ink, 0.45), width: 1.5 } });
    if (row.usable) traces.push({ ...lane, x: row.usable, y: [label, label], line: { color: faded(ink, 0.6), width: 9 } });
    if (row.selected) traces.push({ yaxis: "y2", x: [row.selected], y: [label], mode: "markers", marker: { color: ink, size: 10, line: { color: colour("--card"), width: 2 } },
      hovertemplate: `<b>${label}</b> selected lr %{x:.3g}<br>usable width ${row.decades ?? "none"} decades<extra></extra>` });
    const failed = row.lr.map((_, i) => i).filter((i) => row.value[i] === null);
    traces.push({ yaxis: "y2", x: failed.map((i) => row.lr[i]), y: failed.map(() => label), mode: "markers", marker: { symbol: "x", size: 8, color: colour("--bad") },
      text: failed.map((i) => `${row.state[i]}<br>${row.point[i]}`), hovertemplate: `<b>${label}</b> %{text}<extra></extra>` });
  }
  const widths = rows.map((row) => ({ xref: "paper", x: 1, xanchor: "right", yref: "y2", y: style[row.optimizer].label, showarrow: false, xshift: 62,
    text: row.decades === null ? "none" : `${row.decades} dec.`, font: { size: 11.5 } }));
  return { traces, needs, annotations: widths, margin: { l: 58, r: 74, t: 8, b: 44 },
    xaxis: axis({ type: "log", title: { text: "learning rate" }, anchor: "y2", dtick: 1, exponentformat: "power" }),
    yaxis: frame.axis,
    yaxis2: axis({ domain: [0, below], type: "category", dtick: 1, autorange: "reversed", showgrid: false }) };
}

const sensitivityRows = (task) => [["optimizer", "lr", "value", "state"], ...task.sensitivity.flatMap((row) => row.lr.map((lr, i) => [row.optimizer, lr, row.value[i], row.state[i]]))];

/* Expected best of k trials. */
function bestOf(task) {
  const rows = seen(task.best_of), few = (row) => row.value.slice(Math.floor(row.value.length / 4));
  const frame = view(rows.flatMap(few), metric(task, `best ${measured(task)}`));
  return {
    traces: rows.map((row) => ({ x: row.value.map((_, i) => i + 1), y: row.value, mode: "lines+markers", line: line(row.optimizer), marker: { color: style[row.optimizer].colour, symbol: style[row.optimizer].symbol, size: 7 },
      hovertemplate: `<b>${style[row.optimizer].label}</b> %{y:.4g}<br>expected of %{x} trials<extra></extra>` })),
    xaxis: axis({ title: { text: "trials" }, tickformat: "d", rangemode: "tozero" }), yaxis: frame.axis,
  };
}

const bestOfRows = (task) => [["optimizer", "trials", "expected best"], ...task.best_of.flatMap((row) => row.value.map((value, i) => [row.optimizer, i + 1, value]))];
