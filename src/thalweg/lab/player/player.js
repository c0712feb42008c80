/* What animated pages share: a slider over the part of the runs that is shown, a play button, a legend that hides and shows
   runs, and trails over contours. The page's script gives data.tracks {name, label, colour, x, y, charged}. */
const SECONDS = 10; // a whole run, played
const hidden = new Set();
const visible = () => data.tracks.filter((track) => !hidden.has(track.name));
const slider = document.getElementById("frame"), play = document.getElementById("play"), now = document.getElementById("now");
const used = () => (data.budget * Number(slider.value)) / Number(slider.max);
let playing = null; // the time at which the run shown would have begun

/* How many of a track's points have been reached. */
function made(track) {
  const after = track.charged.findIndex((charged) => charged > used());
  return after < 0 ? track.charged.length : after;
}

function trail(track, text) {
  const count = made(track), x = track.x.slice(0, count), y = track.y.slice(0, count);
  return [
    { x, y, mode: "lines", line: { color: track.colour, width: 2.4 }, text, hovertemplate: `<b>${track.name}</b> %{text}<extra></extra>` },
    { x: x.slice(-1), y: y.slice(-1), mode: "markers", marker: { color: track.colour, size: 12, line: { color: colour("--card"), width: 2 } }, hoverinfo: "skip" },
  ];
}

function contour(field, extra) {
  const levels = field.z.flat().filter((level) => level !== null), low = Math.min(...levels), high = Math.max(...levels);
  return { type: "contour", ...field, showscale: false, hoverinfo: "skip", colorscale: [[0, colour("--valley")], [1, colour("--wall")]],
    line: { color: colour("--level"), width: 0.6 }, contours: { start: low, end: high, size: (high - low) / 18 }, ...extra };
}

/* Puts contours under a figure, in a plot of their own: they take longest to draw, and stand still while trails move over them. */
function ground(parent, draw) {
  const over = document.querySelector(`#${parent} .plot`), under = document.createElement("div");
  under.className = "ground";
  over.before(under);
  charts.unshift({ element: under, draw, still: true });
}

let waiting = false;
function advance() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    charts.filter(({ still }) => !still).forEach(redraw);
  });
}

function move(frame) {
  slider.value = frame;
  now.value = data.said.replace("{}", Math.round(used()));
  advance();
}

function pause() {
  playing = null;
  play.textContent = "Play";
}

function tick(time) {
  if (playing === null) return;
  const frame = ((time - playing) / (1000 * SECONDS)) * Number(slider.max);
  move(Math.min(frame, Number(slider.max)));
  if (frame >= Number(slider.max)) pause();
  else requestAnimationFrame(tick);
}

play.onclick = () => {
  if (playing !== null) return pause();
  if (slider.value === slider.max) slider.value = 0;
  playing = performance.now() - (Number(slider.value) / Number(slider.max)) * 1000 * SECONDS;
  play.textContent = "Pause";
  requestAnimationFrame(tick);
};
slider.addEventListener("input", () => { pause(); move(slider.value); });
document.addEventListener("keydown", (event) => {
  if (event.target !== document.body || event.altKey || event.ctrlKey || event.metaKey) return;
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (event.key === " ") play.click();
  else if (by) { pause(); move(Number(slider.value) + by); }
  else return;
  event.preventDefault();
});

for (const track of data.tracks) {
  const button = document.getElementById("legend").appendChild(document.createElement("button"));
  button.type = "button";
  button.textContent = track.label;
  button.style.setProperty("--colour", track.colour);
  button.setAttribute("aria-pressed", "true");
  button.onclick = () => {
    if (!hidden.delete(track.name)) hidden.add(track.name);
    button.setAttribute("aria-pressed", String(!hidden.has(track.name)));
    advance();
  };
}
