"use strict";
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // Sorting: a click on a header sorts by it, another one the other way round.
  const value = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.dataset.value !== undefined && column === 0 ? Number(cell.dataset.value) : cell.textContent;
    return cell.dataset.value === "" ? Infinity : Number(cell.dataset.value);
  };
  for (const table of all("table.sortable")) {
    all("thead button", table).forEach((button, column) => {
      button.addEventListener("click", () => {
        const header = button.closest("th");
        const down = header.getAttribute("aria-sort") === "ascending";
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", down ? "descending" : "ascending");
        const numeric = "numeric" in button.dataset;
        const rows = [...table.tBodies[0].rows].map((row) => [value(row, column, numeric), row]);
        rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }

  // Choosing: up to as many stacks as there are colours.
  const COLOURS = 8;
  const chosen = new Map();
  const chips = document.getElementById("chips");
  const show = () => {
    for (const line of all(".series")) {
      const colour = chosen.get(line.dataset.stack);
      line.classList.toggle("on", colour !== undefined);
      if (colour !== undefined) line.style.setProperty("--c", `var(--s${colour})`);
    }
    for (const row of all("#stacks tbody tr")) {
      const on = chosen.has(row.dataset.stack);
      row.classList.toggle("on", on);
      row.querySelector("input").checked = on;
    }
    if (!chips) return;
    chips.replaceChildren(...[...chosen].map(([stack, colour]) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = stack;
      button.title = "draw it no more";
      button.style.setProperty("--c", `var(--s${colour})`);
      button.addEventListener("click", () => choose(stack, false));
      item.append(button);
      return item;
    }));
  };
  const choose = (stack, on) => {
    if (!on) chosen.delete(stack);
    else if (!chosen.has(stack)) {
      if (chosen.size === COLOURS) chosen.delete(chosen.keys().next().value);
      const taken = new Set(chosen.values());
      let colour = 1;
      while (taken.has(colour)) colour += 1;
      chosen.set(stack, colour);
    }
    show();
  };
  document.addEventListener("change", (event) => {
    const { target } = event;
    if (target.matches("#stacks input")) choose(target.value, target.checked);
    if (target.id === "add" && target.value) {
      choose(target.value, true);
      target.value = "";
    }
    if (target.id === "load") {
      for (const figure of all("#curves figure[data-load]")) figure.hidden = figure.dataset.load !== target.value;
    }
  });
  for (const stack of document.body.dataset.chosen.split(" ").filter(Boolean)) choose(stack, true);
  show();
})();
