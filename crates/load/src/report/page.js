for (const figure of document.querySelectorAll("figure[data-plot]")) {
  const canvas = figure.querySelector(".canvas");
  const names = [...figure.querySelectorAll("thead th")].map((cell) => cell.textContent);
  const entries = [...figure.querySelectorAll(".legend [data-line]")];
  const rows = [...figure.querySelectorAll("tbody tr")].map((row) => ({
    x: Number(row.dataset.x),
    cells: [...row.children].map((cell) => cell.textContent),
  }));
  if (!canvas || rows.length === 0) continue;
  const cursor = Object.assign(document.createElement("div"), { className: "cursor", hidden: true });
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  canvas.append(cursor, tip);
  const show = (event) => {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * 1000;
    const near = rows.reduce((best, row) => (Math.abs(row.x - x) < Math.abs(best.x - x) ? row : best));
    tip.replaceChildren(
      ...near.cells.flatMap((cell, at) => {
        const line = document.createElement("div");
        const value = Object.assign(document.createElement("b"), { textContent: cell });
        const swatch = document.createElement("i");
        swatch.style = entries[at - 1]?.querySelector("i").getAttribute("style") ?? "";
        line.append(swatch, `${names[at]} `, value);
        return cell === "" ? [] : [line];
      }),
    );
    cursor.hidden = tip.hidden = false;
    cursor.style.left = `${near.x / 10}%`;
    const left = (near.x / 1000) * box.width;
    const room = box.width - tip.offsetWidth;
    tip.style.left = `${Math.max(0, left + 12 + tip.offsetWidth > box.width ? Math.min(left - tip.offsetWidth - 12, room) : left + 12)}px`;
  };
  const hide = () => { cursor.hidden = tip.hidden = true; };
  canvas.addEventListener("pointermove", show);
  canvas.addEventListener("pointerdown", show);
  canvas.addEventListener("pointerleave", hide);
  if (entries.length < 2) continue;
  for (const entry of entries) {
    const alone = (is) => {
      for (const line of canvas.querySelectorAll("[data-line]"))
        line.classList.toggle("dim", is && line.dataset.line !== entry.dataset.line);
    };
    entry.tabIndex = 0;
    for (const begin of ["pointerenter", "focus"]) entry.addEventListener(begin, () => alone(true));
    entry.addEventListener("pointerleave", () => alone(document.activeElement === entry));
    entry.addEventListener("blur", () => alone(false));
  }
}
