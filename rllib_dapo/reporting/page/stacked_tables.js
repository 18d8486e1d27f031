// A table that is wider than its place has narrow columns. If that is not enough, it is a card for
// each row: no column is cut off.
function fitTable(place) {
  const table = place.querySelector("table");
  place.classList.remove("narrow", "stacked");
  for (const form of ["narrow", "stacked"]) {
    if (table && table.scrollWidth > place.clientWidth + 1) place.classList.add(form);
  }
}

function fitTables() {
  for (const place of document.querySelectorAll(".fit")) fitTable(place);
}

// A row's cells know their headings, which stand beside them in a card.
function labelledRow(attributes, cells, headings) {
  cells.forEach((cell, place) => {
    if (headings[place]) cell.dataset.label = headings[place];
  });
  return element("tr", attributes, ...cells);
}

function setUpTables() {
  const widths = new Map();
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (widths.get(target) === target.clientWidth) continue; // its height has changed
      widths.set(target, target.clientWidth);
      fitTable(target);
    }
  });
  for (const place of document.querySelectorAll(".fit")) observer.observe(place);
}
