/* Search, copying, and walking by row. What only works here is also made or shown here. */
(() => {
  "use strict";
  const { body } = document;
  const make = (tag, values, parent) => {
    const made = Object.assign(document.createElement(tag), values);
    parent.append(made);
    return made;
  };
  // A script, because a page that was opened from disk may load no data.
  const load = (src) => new Promise((onload, onerror) => { make("script", { src, onload, onerror }, body); });

  // Search: all words in one row, as substrings.
  const button = document.getElementById("search");
  const dialog = document.getElementById("find");
  const [field, status, list] = dialog.children;
  const address = button.dataset.index;

  // Built from nodes, never from HTML: the index holds other people's text.
  const show = (tag, text, pattern, parent) => {
    const made = make(tag, {}, parent);
    text.split(pattern).forEach((part, i) => { made.append(i % 2 ? make("mark", { textContent: part }, made) : part); });
  };
  const find = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const pattern = RegExp("(" + words.map((word) => word.replace(/\W/g, "\\$&")).join("|") + ")", "i");
    const holds = (text) => words.every((word) => text.toLowerCase().includes(word));
    let count = 0;
    list.replaceChildren();
    for (const [url, title, rows] of words[0] ? window.annotatedIndex || [] : []) {
      for (const [anchor, prose, lines] of rows) {
        if (!holds([prose, ...lines.map((line) => line[1])].join("\n")) || ++count > 50) continue;
        const [n, code] = lines.find((line) => holds(line[1])) || lines.find((line) => pattern.test(line[1])) || [];
        const at = n || /^L(\d+)$/.exec(anchor)?.[1];
        const place = at ? "L" + at : anchor;
        const link = make("a", { href: address.replace("search/index.js", url) + "#" + place }, list);
        show("small", title + (at ? ", line " + at : ""), /^$/, link);
        show("span", prose.slice(prose.lastIndexOf(" ", prose.search(pattern) - 60) + 1).slice(0, 200), pattern, link);
        if (n) show("code", code.trim(), pattern, link);
      }
    }
    status.textContent = words[0] ? count + " found" : "";
  };
  const open = async () => {
    dialog.showModal();
    field.select();
    if (!window.annotatedIndex) await load(address).then(find);
  };
  button.hidden = false;
  button.onclick = open;
  field.oninput = find;
  list.onclick = () => dialog.close();
  dialog.onkeydown = (event) => {
    const stops = [field, ...list.children];
    const at = stops.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      stops[at + step]?.focus();
    } else if (event.key === "Enter" && !at) stops[1]?.click();
  };

  // Copying. A label is no text, which would be copied with what stands around it.
  const copy = (ariaLabel, text, parent) => {
    const made = make("button", { className: "tool copy", ariaLabel }, parent);
    made.onclick = async () => {
      made.ariaLabel = await navigator.clipboard.writeText(await text()).then(() => "Copied", () => "Not allowed");
      setTimeout(() => { made.ariaLabel = ariaLabel; }, 1500);
    };
  };
  const line = (element) => {
    const clone = element.cloneNode(true);
    for (const other of clone.querySelectorAll("a[id], .note")) other.remove();
    return clone.textContent;
  };
  const block = async (n) => {
    if (!window.annotatedBlocks) await load(document.querySelector(".path").dataset.blocks);
    const [lines, spans] = window.annotatedBlocks;
    // In source order, so that the last one is the innermost.
    const [first, last] = spans.filter((span) => span[0] <= n && n <= span[1]).pop() || [1];
    return lines.slice(first - 1, last).filter((text) => text !== null).join("\n") + "\n";
  };
  for (const math of document.querySelectorAll(".eq > math")) {
    copy("Copy LaTeX", () => math.dataset.latex, math.parentNode);
  }
  const rows = [...document.querySelectorAll(".row")];
  for (const row of rows) {
    const lines = [...row.querySelectorAll(".l")];
    if (!lines[0]) continue;
    const bar = make("div", { className: "copies" }, row);
    copy("Copy code", () => lines.map(line).join(""), bar);
    copy("Copy block", () => block(+lines[0].querySelector("a").id.slice(1)), bar);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    if (event.key === "/") {
      event.preventDefault();
      open();
    }
    const step = { j: 1, k: -1 }[event.key];
    if (!step) return;
    const from = rows.indexOf(document.activeElement.closest(".row"));
    const next = rows[from < 0 ? rows.findIndex((row) => row.getBoundingClientRect().bottom > 99) : from + step];
    if (!next) return;
    next.tabIndex = -1;
    next.focus({ preventScroll: true });
    next.scrollIntoView();
  });
})();
