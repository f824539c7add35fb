// Each dataset's section holds a filter form, a choice of columns and a table; a heading's button sorts, empty cells last.
for (const section of document.querySelectorAll("section.dataset")) {
  const form = section.querySelector("form");
  const body = section.querySelector("tbody");
  const heads = [...section.querySelectorAll("thead th")].filter((head) => head.querySelector("button"));

  const filter = () => {
    const sought = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = [...form.querySelectorAll("select")].filter((select) => select.value !== "");
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !(chosen.every((select) => row.dataset[select.name] === select.value)
        && sought.every((word) => row.dataset.text.includes(word)));
      shown += !row.hidden;
    }
    form.querySelector("output").textContent = `${shown} of ${body.rows.length} rows`;
  };

  const sort = (head) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[head.cellIndex].dataset.v;
    const numeric = !head.classList.contains("text");
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = numeric ? Number(x) - Number(y) : x.localeCompare(y);
      return up ? order : -order;
    });
    body.append(...rows);
  };

  const columns = section.querySelector(".columns");
  columns.addEventListener("change", () => {
    const hidden = [...columns.querySelectorAll("input:not(:checked)")];
    section.querySelector("style").textContent =
      hidden.map((box) => `#${CSS.escape(section.id)} tr > :nth-child(${box.value}) { display: none; }`).join(" ");
  });

  heads.forEach((head) => head.querySelector("button").addEventListener("click", () => sort(head)));
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  // The mean is a button for every reader; the other numbers of its row are a larger target for a mouse.
  body.addEventListener("click", (event) => {
    const cell = event.target.closest("td.main, td.n");
    const row = cell?.parentElement;
    const meant = event.target.closest("button") || getSelection().isCollapsed; // not the end of marking text
    if (row && meant) openPanel(row.dataset.key, row.querySelector(".main button"));
  });
  filter();
}
