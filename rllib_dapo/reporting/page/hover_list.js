// What all curves of a plot are at the place of the pointer, in one list.
const hoverLines = new Map();
const MOST_IN_LIST = 14;

function axisTitle() {
  return $("axis").selectedOptions[0].textContent;
}

// The x of any line that is nearest to the pointer's.
function nearestX(lines, wanted) {
  let best = null;
  for (const { x } of lines) {
    const found = x[nearestPlace(x, wanted)];
    if (best === null || Math.abs(found - wanted) < Math.abs(best - wanted)) best = found;
  }
  return best;
}

function hoverRows(lines, x) {
  const found = [];
  for (const line of lines) {
    if (x < line.x[0] || x > line.x[line.x.length - 1]) continue;
    found.push({ line, place: nearestPlace(line.x, x) });
  }
  const value = ({ line, place }) => line.y[place];
  found.sort((a, b) => b.line.isSelected - a.line.isSelected || value(b) - value(a));
  return found;
}

function hoverRow({ line, place }) {
  const ends = line.low && [line.low[place], line.high[place]].map(shortText).join(" to ");
  const band = ends ? ` (${ends}, ${line.seeds[place]} seeds)` : "";
  const value = element("td", { class: "number" }, shortText(line.y[place]) + band);
  return element(
    "tr",
    {},
    element("td", {}, lineSample(line)),
    element("td", {}, joined(line.name, line.label)),
    value,
  );
}

// A short piece of a line as it is drawn.
function lineSample({ color, dash, mark }) {
  const sample = element("span", { class: `sample ${mark ? "squares" : dash}` });
  if (color) sample.style.color = color;
  return sample;
}

function showHoverList(id, event) {
  const plot = $(id);
  const area = plot.querySelector(".nsewdrag");
  const lines = hoverLines.get(id) || [];
  if (!area || !lines.length) return;
  const frame = area.getBoundingClientRect();
  const isInside =
    event.clientX >= frame.left - 4 &&
    event.clientX <= frame.right + 4 &&
    event.clientY >= frame.top &&
    event.clientY <= frame.bottom;
  if (!isInside) return hideHoverList();

  const axis = plot._fullLayout.xaxis;
  const x = nearestX(lines, axis.p2d(event.clientX - frame.left));
  const rows = hoverRows(lines, x);
  const more = rows.length - MOST_IN_LIST;
  $("hover-list").replaceChildren(
    element("strong", {}, `${axisTitle()}: ${shortText(x)}`),
    element("table", {}, element("tbody", {}, ...rows.slice(0, MOST_IN_LIST).map(hoverRow))),
    more > 0 ? element("span", { class: "muted" }, `and ${more} more`) : "",
  );
  placeHoverList(frame.left + axis.d2p(x), frame, event);
}

// Beside the pointer, on the side with more room, and within the window.
function placeHoverList(left, frame, event) {
  const list = $("hover-list");
  const guide = $("hover-guide");
  list.hidden = guide.hidden = false;
  guide.style.left = `${left}px`;
  guide.style.top = `${frame.top}px`;
  guide.style.height = `${frame.height}px`;

  const { width, height } = list.getBoundingClientRect();
  const beside = left > innerWidth / 2 ? left - width - 14 : left + 14;
  const within = (place, size, room) => `${Math.max(4, Math.min(room - size - 4, place))}px`;
  list.style.left = within(beside, width, innerWidth);
  list.style.top = within(event.clientY - height / 2, height, innerHeight);
}

function hideHoverList() {
  $("hover-list").hidden = $("hover-guide").hidden = true;
}

// A finger that is lifted leaves the list; a tap elsewhere or scrolling takes it away.
function followPointer(id) {
  const show = onceAFrame((event) => showHoverList(id, event));
  $(id).addEventListener("pointermove", show);
  $(id).addEventListener("pointerdown", show);
  $(id).addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") requestAnimationFrame(hideHoverList);
  });
}

addEventListener("scroll", hideHoverList, { passive: true });
addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".plot")) hideHoverList();
});
