const { x: across, y: up } = data.contours;
const value = (level) => 10 ** level + data.level_zero;
const frame = (extra) => ({ margin: { l: 56, r: 74, t: 8, b: 40, autoexpand: false },
  xaxis: axis({ title: { text: "along the first direction" }, range: [across[0], across.at(-1)], showgrid: false, automargin: false, fixedrange: true, constrain: "domain", ...extra }),
  yaxis: axis({ title: { text: "along the second" }, range: [up[0], up.at(-1)], showgrid: false, automargin: false, fixedrange: true, scaleanchor: "x", constrain: "domain", ...extra }) });

function scale() {
  const levels = data.contours.z.flat().filter((level) => level !== null), low = Math.min(...levels), high = Math.max(...levels);
  const ticks = Array.from({ length: 6 }, (_, i) => low + ((high - low) * i) / 5);
  return { showscale: true, colorbar: { title: { text: "loss" }, thickness: 10, outlinewidth: 0, tickvals: ticks, ticktext: ticks.map((tick) => value(tick).toPrecision(3)), x: 1.01 } };
}

function plane() {
  const traces = [];
  for (const track of visible()) traces.push({ x: track.x.slice(0, 1), y: track.y.slice(0, 1), mode: "markers", marker: { size: 8, color: colour("--ink") }, hovertemplate: "start<extra></extra>" });
  const said = (track) => track.step.map((step, i) => `step ${step}<br>loss ${track.loss[i].toPrecision(4)}, on the plane below ${track.under[i].toPrecision(4)}`);
  for (const track of visible()) {
    const [line, head] = trail(track, said(track));
    traces.push({ ...line, mode: "lines+markers", marker: { size: 4, color: track.colour } }, { ...head });
  }
  return { traces, ...frame() };
}

function losses() {
  const every = data.tracks.flatMap((track) => track.loss);
  return { traces: visible().map((track) => ({ x: track.charged.slice(0, made(track)), y: track.loss.slice(0, made(track)), mode: "lines", line: { color: track.colour, width: 2.2 },
      hovertemplate: `<b>${track.name}</b> %{y:.4g}<br>%{x:.4g} gradient-equivalents<extra></extra>` })),
    xaxis: axis({ title: { text: "gradient-equivalents" }, range: [0, data.budget] }), yaxis: view(every, { title: { text: "loss on the probe batch" }, ...(Math.max(...every) > 100 * Math.min(...every) ? { dtick: 1 } : {}) }).axis };
}

slider.max = 200;
data.said = `{} of ${Math.round(data.budget)} gradients`;
const columns = ["step", "charged", "x", "y", "loss", "under"];
const rows = () => [["optimizer", ...columns], ...data.tracks.flatMap((track) => track.step.map((_, i) => [track.name, ...columns.map((name) => track[name][i])]))];
figure("plane", data.title, plane, rows);
ground("plane", () => ({ traces: [contour(data.contours, scale())], ...frame({ visible: false }) }));
for (const plot of document.querySelectorAll("#plane .plot, #plane .ground")) plot.style.aspectRatio = (1.12 * (across.at(-1) - across[0])) / (up.at(-1) - up[0]);
figure("losses", "Loss of the runs", losses, rows);
slider.value = slider.max;
render();
move(slider.max);
