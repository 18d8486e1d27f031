// Buttons that save what is shown: the picture, and the numbers in it.

// By the id of what is shown, the function that gives its table: headings and rows.
const shownTables = new Map();

// Text that a spreadsheet would take for a formula is quoted, as is any with commas or quotes.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  let text = String(value);
  if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function csvText({ columns, rows }) {
  return [columns, ...rows].map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function jsonText({ columns, rows }) {
  const records = rows.map((row) =>
    Object.fromEntries(columns.map((name, i) => [name, row[i] === undefined ? null : row[i]])),
  );
  return `${JSON.stringify(records, null, 1)}\n`;
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function savePicture(id, name) {
  const { data, layout: arranged, clientWidth, clientHeight } = $(id);
  const size = { width: Math.max(700, clientWidth), height: Math.max(250, clientHeight) };
  const shown = { ...arranged, ...size, autosize: false, paper_bgcolor: themeColor("--card") };
  const url = await Plotly.toImage({ data, layout: shown }, { format: "png", scale: 2, ...size });
  save(new Blob([decodedBytes(url.split(",")[1])], { type: "image/png" }), name);
}

// The buttons for one plot or table. `title` becomes part of the files' names.
function downloadButtons(id, title, { hasPicture = true } = {}) {
  const named = (ending) => `${plainFileName(report.run.name)}_${plainFileName(title)}.${ending}`;
  const button = (text, click) =>
    element(
      "button",
      { type: "button", class: "small", onclick: click, "aria-label": `${text} of ${title}` },
      text,
    );
  const table = () => shownTables.get(id)();
  const csv = () => save(new Blob([csvText(table())], { type: "text/csv" }), named("csv"));
  const json = () =>
    save(new Blob([jsonText(table())], { type: "application/json" }), named("json"));
  const png = async () => {
    if (!drawn.has(id)) await draw(id);
    await savePicture(id, named("png"));
  };
  return element(
    "span",
    { class: "downloads" },
    hasPicture ? button("PNG", png) : null,
    button("CSV", csv),
    button("JSON", json),
  );
}

// Puts buttons into the places that the page has for them.
function setUpDownloads() {
  for (const place of document.querySelectorAll("[data-downloads]")) {
    const { downloads, title, picture } = place.dataset;
    place.append(downloadButtons(downloads, title, { hasPicture: picture !== "no" }));
  }
}
