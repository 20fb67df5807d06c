/* Every page can be read without this script. The controls that need it are created or revealed here. */
(() => {
  const root = document.documentElement;
  const find = (selector, parent = document) => parent.querySelector(selector);
  const findAll = (selector, parent = document) => [...parent.querySelectorAll(selector)];

  const append = (tag, properties, parent) => {
    const element = Object.assign(document.createElement(tag), properties);
    parent.append(element);
    return element;
  };

  // Data is loaded as scripts, because a page opened from disk may not fetch files.
  const loadScript = (src) =>
    new Promise((resolve, reject) => {
      append("script", { src, onload: resolve, onerror: reject }, root);
    });

  const store = (key, value) => {
    try {
      localStorage.setItem(key, value);
    } catch {
      // Private windows may refuse to store.
    }
  };

  // Theme: the first visit follows the system; the choice of the button is stored.
  const themeButton = find("#theme");
  themeButton.hidden = false;
  themeButton.onclick = () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    root.dataset.theme = theme;
    store("theme", theme);
  };

  // Menus close on a click elsewhere, on a choice and on Escape.
  const openMenus = () => findAll(".top details[open]");
  document.addEventListener("click", ({ target }) => {
    for (const menu of openMenus()) {
      if (!menu.contains(target) || target.closest(".toc a")) menu.open = false;
    }
  });

  // The menu of a narrow screen opens at the section of the page.
  const navigation = find("#nav");
  navigation?.addEventListener("toggle", (event) => {
    const section = find("details.active", navigation);
    if (event.target === navigation && section) section.open = event.newState === "open";
  });

  // A click on a line number goes to the line. The style sheet draws the number, so it is no link.
  document.addEventListener("click", ({ target, clientX }) => {
    const line = target.closest(".code b");
    if (!line) return;
    const left = line.closest("pre").getBoundingClientRect().left;
    const width = parseFloat(getComputedStyle(line, "::before").width);
    if (clientX - left < width) location.hash = line.id;
  });

  // Folds: the head of the page has set the class `paper` unless the reader chose `full`. The last
  // fold of a row may go on in the rows below.
  const folds = findAll(".fold");
  const foldOf = new Map(); // the button of each folded part
  const setFold = (button, open) => {
    button.ariaExpanded = open;
    for (const [part, owner] of foldOf) {
      if (owner !== button) continue;
      part.classList.toggle("open", open);
      if (open) part.removeAttribute("hidden");
      else part.setAttribute("hidden", "until-found");
    }
  };
  for (const button of folds) {
    foldOf.set(button.nextElementSibling, button);
    let row = button.closest(".row");
    if (findAll(".fold", row).pop() === button) {
      while ((row = row.nextElementSibling)?.matches(".folded")) foldOf.set(row, button);
    }
    button.onclick = () => setFold(button, button.ariaExpanded !== "true");
  }
  document.addEventListener("beforematch", ({ target }) => setFold(foldOf.get(target), true));
  const isClosed = (element) => element.closest(".folded[hidden]");
  const openTarget = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const part = target && isClosed(target);
    if (!part) return;
    setFold(foldOf.get(part), true);
    target.scrollIntoView();
  };
  if (folds.length) {
    const group = append("span", { className: "depth", role: "group", ariaLabel: "Code" }, find(".path"));
    const setDepth = (depth) => {
      root.className = depth;
      for (const button of folds) setFold(button, depth === "full");
      for (const choice of group.children) choice.ariaPressed = choice.textContent === depth;
    };
    for (const depth of ["paper", "full"]) {
      append("button", { textContent: depth, title: depth === "full" ? "Show all code and arguments" : "Fold checks, arguments, long signatures and imports" }, group).onclick = () => {
        setDepth(depth);
        store("depth", depth);
      };
    }
    setDepth(root.className);
    openTarget();
    addEventListener("hashchange", openTarget);
  }

  // Only boxes that scroll are stops of the Tab key.
  const resizeObserver = new ResizeObserver((entries) => {
    // Measure all boxes before changing one, so that the page is laid out once.
    const scrolls = entries.map(({ target }) => target.scrollWidth > target.clientWidth);
    entries.forEach(({ target }, i) => {
      if (scrolls[i]) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    });
  });
  for (const box of findAll("pre, .scroll, .eq")) resizeObserver.observe(box);

  // A copied selection has its formulas as LaTeX; a browser alone copies one symbol per line.
  document.addEventListener("copy", (event) => {
    const selection = getSelection();
    if (selection.isCollapsed) return;
    const range = selection.getRangeAt(0).cloneRange();
    const formulaAround = (node) => (node.closest ? node : node.parentElement)?.closest("math");
    const first = formulaAround(range.startContainer);
    const last = formulaAround(range.endContainer);
    if (first) range.setStartBefore(first);
    if (last) range.setEndAfter(last);
    const copied = append("div", {}, root);
    copied.append(range.cloneContents());
    for (const drawn of findAll(".no, .fold", copied)) drawn.remove();
    const formulas = findAll("math", copied);
    for (const formula of formulas) {
      const mark = formula.getAttribute("display") === "block" ? "$$" : "$";
      // Formulas of the legend have no LaTeX; they are single letters.
      const latex = formula.dataset.latex ?? formula.textContent;
      // Only the first part of a formula has its LaTeX.
      formula.replaceWith(latex && mark + latex + mark);
    }
    if (formulas.length) {
      // Only rendered text has line breaks, so render it off the screen.
      copied.className = "skip";
      event.clipboardData.setData("text/plain", copied.innerText.trim());
      event.preventDefault();
    }
    copied.remove();
  });

  // Search: a row is found if it contains all words, as substrings, or defines or numbers the thing.
  const searchButton = find("#search");
  const searchDialog = find("#find");
  const [searchField, searchStatus, searchResults] = searchDialog.children;
  const indexAddress = searchButton.dataset.index;
  const MAX_RESULTS = 50;

  // Append text with its matches in `<mark>`. No HTML is parsed, because the index holds any text.
  const appendMarked = (tag, text, pattern, parent) => {
    const element = append(tag, {}, parent);
    text.split(pattern).forEach((part, i) => {
      if (i % 2) append("mark", { textContent: part }, element);
      else element.append(part);
    });
  };

  // About 200 characters, starting at a word shortly before the first match.
  const excerpt = (text, pattern) => {
    const start = text.lastIndexOf(" ", text.search(pattern) - 60) + 1;
    return text.slice(start).slice(0, 200);
  };

  // The words of a name: "GMLPBlock.forward" is also found as "gmlp block forward".
  const spaced = (name) =>
    name.replace(/([a-z\d])(?=[A-Z])|([A-Z])(?=[A-Z][a-z])|[._]+/g, "$1$2 ").trim().toLowerCase();

  // How well a row answers: definitions before headings before prose before code, and in each the
  // exact words before a part of them. Rows that do not hold all words have no rank.
  const rankOf = (row, query, words, whole) => {
    const [, prose, lines, names = [], headings = [], equations = []] = row;
    const number = /^(?:eq\.?|equation) ?\(?([\w.-]+)\)?$/.exec(query)?.[1];
    if (equations.some((each) => each.toLowerCase() === number)) {
      return { rank: names.length ? 0 : 1, name: names[0] };
    }
    const code = lines.map(([, text]) => text).join("\n");
    // The ranks of an exact match and of a part.
    const kinds = [
      ...names.map((name) => {
        const [inner, outer] = name.split(".").reverse();
        return [outer ? 1 : 0, outer ? 3 : 2, [name, inner, spaced(name), spaced(inner)], name];
      }),
      [4, 5, headings],
      [6, 7, [prose]],
      [8, 9, [code]],
    ];
    let best = { rank: 10 };
    for (const [exact, part, texts, name] of kinds) {
      for (const text of texts.map((each) => each.toLowerCase())) {
        if (!text.includes(query)) continue;
        const rank = (exact < 6 ? text === query : whole.test(text)) ? exact : part;
        if (rank < best.rank) best = { rank, name };
      }
    }
    if (best.rank < 10) return best;
    const all = [...names, prose, code].join("\n").toLowerCase();
    return words.every((word) => all.includes(word)) ? { rank: 10 } : undefined;
  };

  const appendResult = (page, title, row, words, pattern, name) => {
    const [anchor, prose, lines] = row;
    const defines = name && RegExp("\\b(class|def) " + name.split(".").pop() + "\\b");
    const [number, code] =
      (name && lines.find(([, text]) => defines.test(text))) ||
      lines.find(([, text]) => words.every((word) => text.toLowerCase().includes(word))) ||
      lines.find(([, text]) => pattern.test(text)) ||
      [];
    const lineNumber = number || /^L(\d+)$/.exec(anchor)?.[1];
    const fragment = name || (lineNumber ? "L" + lineNumber : anchor);
    const href = indexAddress.replace("search/index.js", page) + "#" + fragment;
    const link = append("a", { href }, searchResults);
    append("small", { textContent: title + (lineNumber ? ", line " + lineNumber : "") }, link);
    appendMarked("span", excerpt(prose, pattern), pattern, link);
    if (number) appendMarked("code", code.trim(), pattern, link);
  };

  const search = () => {
    const words = searchField.value.toLowerCase().split(/\s+/).filter(Boolean);
    const query = words.join(" ");
    const escape = (text) => text.replace(/\W/g, "\\$&");
    const pattern = RegExp("(" + words.map(escape).join("|") + ")", "i");
    const whole = RegExp("(?<!\\w)" + escape(query) + "(?!\\w)");
    searchResults.replaceChildren();
    searchStatus.textContent = "";
    if (!words.length) return;
    const found = [];
    for (const [page, title, rows] of window.annotatedIndex || []) {
      for (const row of rows) {
        const match = rankOf(row, query, words, whole);
        if (match) found.push([match, page, title, row]);
      }
    }
    found.sort(([one], [other]) => one.rank - other.rank);
    for (const [match, page, title, row] of found.slice(0, MAX_RESULTS)) {
      appendResult(page, title, row, words, pattern, match.name);
    }
    searchStatus.textContent = found.length + " found";
  };

  const openSearch = async () => {
    searchDialog.showModal();
    searchField.select();
    if (!window.annotatedIndex) await loadScript(indexAddress).then(search);
  };
  searchButton.hidden = false;
  searchButton.onclick = openSearch;
  searchField.oninput = search;
  searchResults.onclick = () => searchDialog.close();
  searchDialog.onkeydown = (event) => {
    const stops = [searchField, ...searchResults.children];
    const current = stops.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      stops[current + step]?.focus();
    } else if (event.key === "Enter" && current === 0) {
      stops[1]?.click();
    }
  };

  // Copy buttons. Their text is an `aria-label`, so that it is not copied with a selection.
  const appendCopyButton = (label, text, parent) => {
    const button = append("button", { className: "tool copy", ariaLabel: label }, parent);
    button.onclick = async () => {
      const written = navigator.clipboard.writeText(await text());
      button.ariaLabel = await written.then(() => "Copied", () => "Not allowed");
      setTimeout(() => { button.ariaLabel = label; }, 1500);
    };
  };

  // The source of the innermost class or function around a line, without comments.
  const blockAround = async (line) => {
    if (!window.annotatedBlocks) await loadScript(find(".path").dataset.blocks);
    const [lines, spans] = window.annotatedBlocks;
    // The spans are in source order, so the last one that contains the line is the innermost.
    const around = spans.filter(([first, last]) => first <= line && line <= last);
    const [first, last] = around.pop() || [1];
    return lines.slice(first - 1, last).filter((text) => text !== null).join("\n") + "\n";
  };

  for (const formula of findAll(".eq math:first-child")) {
    appendCopyButton("Copy LaTeX", () => formula.dataset.latex, formula.closest(".eq"));
  }
  const rows = findAll(".row");
  for (const row of rows) {
    const code = find(".code", row);
    if (!code) continue;
    const firstLine = Number(find("b", code).id.slice(1));
    const bar = append("div", { className: "copies" }, row);
    const text = () => findAll("b", code).map((line) => line.textContent).join("");
    appendCopyButton("Copy code", text, bar);
    appendCopyButton("Copy block", () => blockAround(firstLine), bar);
  }
  // Linked names in the code are not stops of the Tab key; there are too many.
  for (const link of findAll(".code a")) link.tabIndex = -1;

  // Symbols: hovering or focusing one highlights it in all equations and code of the page.
  const legend = find(".symbols");
  const symbols = findAll("[data-s]");
  // In a drawing, the link that has the focus may be around its symbol.
  const symbolAt = ({ target }) =>
    target.closest?.("[data-s]") || target.closest?.("svg a")?.querySelector("[data-s]");
  let pinned = "";
  const highlight = (id) => {
    for (const symbol of symbols) {
      symbol.classList.toggle("lit", symbol.dataset.s === id);
      if (symbol.type) symbol.ariaPressed = symbol.dataset.s === pinned;
    }
  };
  const pin = (id) => {
    pinned = id;
    highlight(id);
  };
  if (legend) {
    legend.hidden = false;
    pin("");
    const preview = (event) => {
      if (event.pointerType === "touch") return;
      const id = symbolAt(event)?.dataset.s;
      highlight(id || pinned);
      // MathML elements have no tooltip, so set the tooltip of the page.
      find("main").title = id ? find(`[data-s="${id}"] span`, legend).textContent : "";
    };
    document.addEventListener("pointerover", preview);
    document.addEventListener("focusin", preview);
    document.addEventListener("click", (event) => {
      const symbol = symbolAt(event);
      if (!symbol) return;
      // A mouse follows a link. Touch has no hover: a tap pins the symbol, and a second one follows
      // the link of a drawing.
      const link = event.target.closest("a");
      const again = pinned === symbol.dataset.s && link?.closest("svg");
      if (link && (event.pointerType !== "touch" || again)) return;
      event.preventDefault();
      pin(pinned === symbol.dataset.s ? "" : symbol.dataset.s);
    });
  }

  // Keys: Escape closes menus and clears the pinned symbol, `/` searches, `j` and `k` change the row.
  const HEADER_HEIGHT = 99; // pixels, with a margin
  const goToRow = (step, from) => {
    const visible = rows.findIndex((row) => row.getBoundingClientRect().bottom > HEADER_HEIGHT);
    const current = rows.indexOf(from.closest(".row"));
    let next = current < 0 ? visible : current + step;
    while (rows[next] && isClosed(rows[next])) next += step;
    const row = rows[next];
    if (!row) return;
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
    row.scrollIntoView();
  };
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (key === "Escape") {
      for (const menu of openMenus()) {
        if (menu.contains(target)) find("summary", menu).focus();
        menu.open = false;
      }
      pin("");
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.closest("input, textarea, select, dialog")) return;
    if (key === "/") {
      event.preventDefault();
      openSearch();
    } else if (key === "j" || key === "k") {
      goToRow(key === "j" ? 1 : -1, target);
    }
  });
})();
