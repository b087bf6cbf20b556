"use strict";
(() => {
  const root = document.getElementById("whatif");
  const holder = document.getElementById("whatif-data");
  if (!root || !holder) return;
  const data = JSON.parse(holder.textContent);
  const at = (name, within = root) => within.querySelector(`[data-at="${name}"]`);
  const total = data.base.reduce((sum, row) => [sum[0] + row[0], sum[1] + row[1]], [0, 0]);
  let turned = null;

  // Numbers and names, as the rest of the page writes them.
  const plain = new Intl.NumberFormat("en-US");
  const si = (value) => {
    let scaled = Math.abs(value);
    if (scaled < 1000) return String(value);
    for (const unit of "KMBT") {
      scaled /= 1000;
      if (scaled < 999.5 || unit === "T") {
        const digits = scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
        return (value < 0 ? "-" : "") + scaled.toFixed(digits) + unit;
      }
    }
  };
  const signed = (value, show) => (value > 0 ? "+" : "") + show(value);
  const written = (value) =>
    Number.isInteger(value) ? BigInt(value).toString() : value.toFixed(12).replace(/0+$/, "");
  const visible = (text) =>
    text.replace(/\p{C}/gu, (c) => `[U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
  const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "-");

  // Cells stand below the first edge, on it, between it and the second, and so on.
  const passing = (op, edge, count) =>
    op[0] === ">"
      ? [2 * edge + (op === ">=" ? 1 : 2), 2 * count + 1]
      : [0, 2 * edge + (op === "<=" ? 2 : 1)];
  const span = (dial, edges) => {
    const ranges = dial.handles.map((handle, i) => passing(handle.op, edges[i], dial.edges.length));
    return [Math.max(...ranges.map((r) => r[0])), Math.min(...ranges.map((r) => r[1]))];
  };
  const recipes = (dial) => dial.handles.map((handle) => handle.edge);

  const kept = (dial, edges) => {
    const [first, end] = span(dial, edges);
    const [wasFirst, wasEnd] = span(dial, recipes(dial));
    let estimated = false;
    const rows = data.base.map((base, row) => {
      let [documents, tokens] = base;
      const cells = dial.cells[row];
      for (let i = 0; i < cells.length; i += 3) {
        const is = cells[i] >= first && cells[i] < end;
        const was = cells[i] >= wasFirst && cells[i] < wasEnd;
        if (is === was) continue;
        documents += is ? cells[i + 1] : -cells[i + 1];
        tokens += is ? cells[i + 2] : -cells[i + 2];
        estimated ||= is;
      }
      return [documents, tokens];
    });
    return { rows, estimated };
  };
  const without = (rule) => {
    const rows = data.base.map((base) => [...base]);
    for (let i = 0; i < rule.off.length; i += 3) {
      rows[rule.off[i]][0] += rule.off[i + 1];
      rows[rule.off[i]][1] += rule.off[i + 2];
    }
    return { rows, estimated: rule.off.length > 0 };
  };

  // A YAML string in double quotes, in ASCII: nothing invisible, nothing that reorders.
  const quoted = (text) =>
    `"${[...text]
      .map((c) => {
        const code = c.codePointAt(0);
        if (c === '"' || c === "\\") return `\\${c}`;
        if (code >= 32 && code < 127) return c;
        return code < 65536
          ? `\\u${code.toString(16).padStart(4, "0")}`
          : `\\U${code.toString(16).padStart(8, "0")}`;
      })
      .join("")}"`;
  const rewritten = (dial, edges) => {
    const pieces = dial.handles.map((handle, i) => ({ ...handle, edge: edges[i] }));
    let sql = dial.keep;
    for (const piece of pieces.sort((a, b) => b.start - a.start)) {
      const value = written(dial.edges[piece.edge]);
      const text = piece.edge === dial.handles.find((h) => h.start === piece.start).edge
        ? piece.sql
        : piece.equal ? `<= ${value}` : value;
      sql = sql.slice(0, piece.start) + text + sql.slice(piece.start + piece.sql.length);
    }
    return sql;
  };
  const patch = (rule, edges) => {
    const sources = data.all_sources.filter((name) => !rule.skip.includes(name));
    if (edges === null) {
      const lines = sources.map((name) => {
        const names = [...(data.exempt[name] || []), rule.rule].map(quoted).join(", ");
        return `    ${quoted(name)}: [${names}]`;
      });
      return ["rules:", "  exempt:", ...lines].join("\n");
    }
    const line = `${quoted(rule.rule)}: ${quoted(rewritten(rule, edges))}`;
    if (rule.own) return ["rules:", "  add:", `    ${line}`].join("\n");
    const lines = sources.flatMap((name) => [`    ${quoted(name)}:`, `      ${line}`]);
    return ["rules:", "  override:", ...lines].join("\n");
  };

  const put = (row, documents, tokens, base, estimated) => {
    const text = (name, value) => {
      const cell = at(name, row);
      if (cell.textContent !== value) cell.textContent = value;
      return cell;
    };
    const delta = [documents - base[0], tokens - base[1]];
    text("documents", plain.format(documents));
    text("tokens", (estimated && delta[1] > 0 ? "~" : "") + si(tokens));
    const show = (name, value, format, whole) => {
      const said = value ? signed(value, format) : "";
      const cell = text(name, said && whole ? `${said} (${share(value, whole)})` : said);
      cell.className = value < 0 ? "out" : "in";
    };
    show("documents-change", delta[0], (value) => plain.format(value), row.dataset.total && base[0]);
    show("tokens-change", delta[1], si, row.dataset.total && base[1]);
    return delta;
  };

  const tell = (rule, edges, said) => {
    const outcome = edges === null ? without(rule) : kept(rule, edges);
    outcome.rows.forEach(([documents, tokens], i) => {
      put(at(`row-${i}`), documents, tokens, data.base[i], outcome.estimated);
    });
    const sum = outcome.rows.reduce((s, row) => [s[0] + row[0], s[1] + row[1]], [0, 0]);
    put(at("total"), sum[0], sum[1], total, outcome.estimated);
    at("said").textContent = visible(said);
    at("patch").textContent = patch(rule, edges);
    at("patched").hidden = false;
    at("reset").hidden = false;
    at("copy").textContent = "Copy the patch";
  };

  const draw = (card, dial, edges) => {
    const last = dial.edges.length - 1;
    const place = { ">": 0, "<": last };
    dial.handles.forEach((handle, i) => { place[handle.op[0]] = edges[i]; });
    const [low, high] = [place[">"], place["<"]];
    const layer = at("kept", card);
    layer.setAttribute("x", `${(100 * low) / last}%`);
    layer.setAttribute("width", `${Math.max(0, (100 * (high - low)) / last)}%`);
    layer.setAttribute("viewBox", `${low} 0 ${Math.max(high - low, 0.001)} 100`);
    dial.handles.forEach((handle, i) => {
      const line = at(`line-${i}`, card);
      line.setAttribute("x1", `${(100 * edges[i]) / last}%`);
      line.setAttribute("x2", `${(100 * edges[i]) / last}%`);
      const value = written(dial.edges[edges[i]]);
      at(`value-${i}`, card).textContent = value;
      const input = at(`handle-${i}`, card);
      input.value = String(edges[i]);
      input.setAttribute("aria-valuetext", `${dial.column} ${handle.op} ${value}`);
    });
  };

  const same = (a, b) => a.every((value, i) => value === b[i]);
  const restore = () => {
    if (turned === null) return;
    turned.card.classList.remove("turned");
    if (turned.dial) draw(turned.card, turned.dial, recipes(turned.dial));
    at("off", turned.card).setAttribute("aria-pressed", "false");
    turned = null;
  };
  const reset = () => {
    restore();
    data.base.forEach((base, i) => put(at(`row-${i}`), base[0], base[1], base, false));
    put(at("total"), total[0], total[1], total, false);
    at("said").textContent = at("said").dataset.rest;
    at("patched").hidden = true;
    at("reset").hidden = true;
  };
  const choose = (card, dial) => {
    if (turned === null || turned.card !== card) restore();
    turned = { card, dial };
    card.classList.add("turned");
  };

  const cards = [...root.querySelectorAll("[data-rule]")];
  for (const card of cards) {
    const dial = card.dataset.kind === "dial" ? data.dials[card.dataset.rule] : null;
    const rule = dial || data.whole[card.dataset.rule];
    const inputs = dial ? dial.handles.map((_, i) => at(`handle-${i}`, card)) : [];
    inputs.forEach((input, i) => {
      input.addEventListener("input", () => {
        const edges = inputs.map((one) => Number(one.value));
        if (inputs.length === 2 && edges[0] > edges[1]) edges[i] = edges[1 - i];
        choose(card, dial);
        at("off", card).setAttribute("aria-pressed", "false");
        draw(card, dial, edges);
        if (same(edges, recipes(dial))) reset();
        else tell(rule, edges, rewritten(dial, edges));
      });
    });
    at("off", card).addEventListener("click", () => {
      const pressed = at("off", card).getAttribute("aria-pressed") === "true";
      if (pressed) { reset(); return; }
      choose(card, dial);
      if (dial) draw(card, dial, recipes(dial));
      at("off", card).setAttribute("aria-pressed", "true");
      tell(rule, null, `without ${rule.rule}`);
    });
  }
  at("reset").addEventListener("click", reset);
  at("copy").addEventListener("click", async () => {
    const text = at("patch").textContent;
    try {
      await navigator.clipboard.writeText(`${text}\n`);
      at("copy").textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(at("patch"));
      const selection = window.getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      at("copy").textContent = "Selected: copy it";
    }
  });
  if (window.matchMedia("(max-width: 62rem)").matches) {
    at("sources").open = at("patched").open = false;
  }
  for (const part of root.querySelectorAll("[data-script]")) part.hidden = false;
  root.classList.add("live");
})();
