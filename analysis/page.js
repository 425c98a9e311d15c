"use strict";
// A click on a column's head sorts its table: numbers as numbers, the rest as text, what has no value last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key;
    const absent = (text) => text === "" || text === "–" || text === "nan";
    const rows = [...table.tBodies[0].rows].sort((left, right) => {
      const [a, b] = [key(left), key(right)];
      if (absent(a) || absent(b)) return absent(a) - absent(b);
      const [x, y] = [a, b].map((text) => (text === "inf" ? Infinity : Number(text)));
      const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x === y ? 0 : x - y;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }));
}
