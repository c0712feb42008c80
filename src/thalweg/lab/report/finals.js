/* Final results: every seed, the median, its interval; failures in a lane of their own. */
function finals(task) {
  const traces = [], rows = seen(task.finals).reverse();
  rows.forEach((row, i) => {
    const { colour: ink, label } = style[row.optimizer], ok = row.value.map((_, k) => k).filter((k) => row.value[k] !== null);
    const jitter = (k) => i - 0.22 + (0.44 * (k + 0.5)) / row.value.length;
    traces.push({ x: ok.map((k) => row.value[k]), y: ok.map(jitter), mode: "markers", marker: { color: faded(ink, 0.75), size: 7 },
      text: ok.map((k) => row.seed[k]), hovertemplate: `<b>${label}</b> seed %{text}: %{x:.5g}<extra></extra>` });
    if (row.low !== null && row.high !== null) traces.push({ x: [row.low, row.high], y: [i, i], mode: "lines", line: { color: ink, width: 3 }, hoverinfo: "skip" });
    if (row.median !== null) traces.push({ x: [row.median], y: [i], mode: "markers", marker: { symbol: "line-ns", size: 20, line: { color: ink, width: 3 } },
      hovertemplate: `<b>${label}</b> median %{x:.5g}<extra></extra>` });
    const failed = row.value.map((_, k) => k).filter((k) => row.value[k] === null);
    traces.push({ xaxis: "x2", x: failed.map(() => 0.5), y: failed.map(jitter), mode: "markers", marker: { symbol: "x", size: 8, color: colour("--bad") },
      text: failed.map((k) => `seed ${row.seed[k]}: ${row.state[k]}`), hovertemplate: `<b>${label}</b> %{text}<extra></extra>` });
  });
  const higher = task.better === "max", failures = rows.some((row) => row.value.includes(null));
  const domain = !failures ? [0, 1] : higher ? [0.1, 1] : [0, 0.9];
  return { traces,
    xaxis: axis({ title: { text: `${measured(task)} (${higher ? "right" : "left"} is better)` }, domain }),
    xaxis2: axis({ domain: higher ? [0, 0.07] : [0.93, 1], range: [0, 1], showgrid: false, visible: failures, tickvals: [0.5], ticktext: ["failed"] }),
    yaxis: lanes(rows), needs: room(rows) };
}

const finalRows = (task) => [["optimizer", "seed", "value", "state"], ...task.finals.flatMap((row) => row.value.map((value, k) => [row.optimizer, row.seed[k], value, row.state[k]]))];

/* All tasks together. */
const improvement = (block) => forest(block.rows, "chance, mean over tasks", { at: 0.5, xaxis: { range: [-0.02, 1.02] } });
const score = () => forest(data.scores, "0 is untrained, 1 the goal", { at: 1, xaxis: {} });
