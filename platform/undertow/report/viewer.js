"use strict";
// The viewer's only script. The rows are text that models wrote: they become text nodes, never markup, and
// nothing is loaded from anywhere (the page's content security policy forbids both).
(() => {
  const PAGE = 25; // rows per page
  const SETTLED = 200; // milliseconds without a key before a search starts
  const FILTERS = ["trait", "condition", "source", "measure", "seed", "outcome", "text"];
  const OF_VIEW = { completions: ["source"], answers: ["measure"] }; // filters that only one view has
  // Characters that are invisible or change the direction of text; they are shown by their number.
  const HIDDEN =
    /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff])/u;
  const ANSWER_OUTCOMES = ["only the student", "both", "only the control student", "neither", "does not count"];

  const byId = (id) => document.getElementById(id);
  const rowsOf = byId("rows");
  const loaded = new Map(); // chunks by number, as promises of their columns
  let index;
  let state = { view: "answers", page: 0 };
  let latest = 0; // the number of the newest request; an older one stops when it notices

  // --- reading chunks ---

  async function decompressed(element) {
    const binary = atob(element.textContent);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function chunk(number) {
    if (!loaded.has(number)) loaded.set(number, decompressed(byId(`chunk-${number}`)));
    return loaded.get(number);
  }

  // --- which rows match the filters ---
  // A part is a data set or a pair of evaluations; a piece is one chunk of it.

  function parts() {
    const is = (name, value) => state[name] === undefined || state[name] === String(value);
    if (state.view === "completions") {
      return index.datasets.filter(
        (one) =>
          is("trait", one.trait) && is("source", one.source) &&
          (state.condition === undefined || one.conditions.includes(Number(state.condition))) &&
          (state.seed === undefined || one.seeds.includes(Number(state.seed))));
    }
    return index.pairs.filter(
      (pair) =>
        is("trait", index.conditions[pair.condition].trait) && is("condition", pair.condition) &&
        is("measure", index.measures[pair.measure]) && is("seed", pair.seed));
  }

  const pieces = (part) =>
    state.view === "completions" ? part.pieces : index.evaluations[part.student].pieces;

  // Whether a completion's outcome is the chosen one: a rule, or "kept" or "rejected" for several outcomes.
  function isChosen([label, kind]) {
    if (state.outcome === undefined) return true;
    if (state.outcome === "kept") return kind === "used" || kind === "spare";
    return state.outcome === "rejected" ? kind === "rejected" : label === state.outcome;
  }

  // The number of matching rows of a piece if it is known without its chunk, else undefined.
  function knownCount(part, piece) {
    if (state.text !== undefined) return undefined;
    if (state.outcome === undefined) return piece.rows;
    if (state.view === "answers") return undefined;
    return piece.counts.reduce((sum, count, code) => sum + (isChosen(part.outcomes[code]) ? count : 0), 0);
  }

  const contains = (text, wanted) => text.toLowerCase().includes(wanted);

  async function matchingRows(part, number) {
    const wanted = state.text === undefined ? "" : state.text.toLowerCase();
    const columns = await chunk(pieces(part)[number].chunk);
    const found = [];
    if (state.view === "completions") {
      for (let i = 0; i < columns.outcome.length; i++) {
        if (!isChosen(part.outcomes[columns.outcome[i]])) continue;
        const replies = columns.replies.map((ofJudge) => ofJudge[i]);
        const texts = [columns.prompt[i], columns.completion[i], columns.second[i], ...replies];
        if (!wanted || texts.some((text) => text && contains(text, wanted)))
          found.push({ part, columns, i });
      }
      return found;
    }
    const other = await controlAnswers(part, number);
    for (let i = 0; i < columns.answer.length; i++) {
      const question = columns.questions[columns.question[i]];
      const control = other.get(`${columns.sample[i]} ${question}`);
      const row = { part, columns, i, question, control, outcome: answerOutcome(part, columns, i, control) };
      if (state.outcome !== undefined && row.outcome !== state.outcome) continue;
      const replies = columns.replies.map((ofJudge) => ofJudge[i]);
      const texts = [question, columns.answer[i], control && control.columns.answer[control.i], ...replies];
      if (!wanted || texts.some((text) => text && contains(text, wanted))) found.push(row);
    }
    return found;
  }

  // The control student's answers in the chunk with the same number, by sample and question.
  async function controlAnswers(pair, number) {
    const found = new Map();
    const piece = pair.control === null ? undefined : index.evaluations[pair.control].pieces[number];
    if (piece === undefined) return found;
    const columns = await chunk(piece.chunk);
    for (let i = 0; i < columns.answer.length; i++)
      found.set(`${columns.sample[i]} ${columns.questions[columns.question[i]]}`, { columns, i });
    return found;
  }

  function answerOutcome(pair, columns, i, control) {
    const word = index.conditions[pair.condition].word;
    if (columns.counted.length && !columns.counted[i]) return ANSWER_OUTCOMES[4];
    const own = columns.words[i].includes(word);
    const other = control !== undefined && control.columns.words[control.i].includes(word);
    return ANSWER_OUTCOMES[own ? (other ? 1 : 0) : other ? 2 : 3];
  }

  // --- showing a page ---

  async function show() {
    const mine = ++latest;
    const chosen = parts();
    const total = chosen.reduce((sum, part) => sum + pieces(part).length, 0);
    const from = state.page * PAGE;
    const shown = [];
    let count = 0;
    let read = 0;
    let drawn = false;
    rowsOf.setAttribute("aria-busy", "true");
    for (const part of chosen) {
      for (let number = 0; number < pieces(part).length; number++) {
        read++;
        const known = knownCount(part, pieces(part)[number]);
        if (known !== undefined && (count + known <= from || count >= from + PAGE)) {
          count += known;
          continue;
        }
        const rows = await matchingRows(part, number);
        if (mine !== latest) return;
        for (const row of rows) {
          if (count >= from && count < from + PAGE) shown.push(row);
          count++;
        }
        if (shown.length === PAGE && !drawn) {
          drawn = true;
          draw(shown);
        }
        if (known === undefined) {
          const share = Math.round((100 * read) / total);
          byId("status").textContent = `Searching: ${share} %, ${count.toLocaleString("en")} rows so far`;
        }
      }
    }
    const last = Math.max(0, Math.ceil(count / PAGE) - 1);
    if (state.page > last) {
      state.page = last;
      return show();
    }
    if (!drawn) draw(shown);
    status(from, shown.length, count.toLocaleString("en"));
    byId("previous").disabled = state.page === 0;
    byId("next").disabled = state.page === last;
    rowsOf.removeAttribute("aria-busy");
    // The milliseconds from opening the page to its first table, for measurements.
    if (document.documentElement.dataset.firstTable === undefined)
      document.documentElement.dataset.firstTable = String(Math.round(performance.now()));
  }

  function status(from, shown, total) {
    byId("status").textContent =
      shown === 0 ? "No rows match the filters." : `Rows ${from + 1}–${from + shown} of ${total}`;
  }

  function draw(rows) {
    const heads = state.view === "completions"
      ? ["data", "prompt", "completion", "verdict"]
      : ["student", "question", "student’s answer", "control student’s answer"];
    const head = document.createElement("tr");
    for (const name of heads) head.append(element("th", "", name));
    rowsOf.tHead.replaceChildren(head);
    const cells = state.view === "completions" ? completionCells : answerCells;
    rowsOf.tBodies[0].replaceChildren(...rows.map((row) => {
      const line = document.createElement("tr");
      cells(row).forEach((cell, number) => {
        cell.dataset.label = heads[number];
        line.append(cell);
      });
      return line;
    }));
  }

  function completionCells({ part, columns, i }) {
    const about = element("td", "about");
    about.append(element("span", "", index.sources[part.source]), element("span", "", seeds(part.seeds)));
    about.append(element("span", "", `completion ${columns.first + i}`));
    const [label, kind] = part.outcomes[columns.outcome[i]];
    const verdict = element("td", "verdict");
    verdict.append(element("span", `kind ${kind}`, kind === "rejected" ? `rejected: ${label}` : label));
    part.judges.forEach((judge, number) => {
      const reply = columns.replies[number][i];
      const rejects = label.startsWith(`judge ${judge}: `);
      if (reply !== null)
        verdict.append(replyLine(`judge ${judge} ${rejects ? "rejects" : "keeps"} it`, reply));
    });
    const answers = said("answer", columns.completion[i], []);
    if (columns.second[i])
      answers.append(element("div", "about", "second answer"), text("div", "answer", columns.second[i], []));
    return [about, said("prompt", columns.prompt[i], []), answers, verdict];
  }

  function answerCells({ part, columns, i, question, control }) {
    const condition = index.conditions[part.condition];
    const about = element("td", "about");
    about.append(element("span", "", condition.label));
    about.append(element("span", "", `${seeds([part.seed])}, sample ${columns.sample[i]}`));
    if (index.measures.length > 1) about.append(element("span", "", index.measures[part.measure]));
    const words = index.evaluations[part.student].words;
    const own = answerCell(columns, i, words, condition.word);
    const other = control === undefined
      ? element("td", "about", "no answer")
      : answerCell(control.columns, control.i, words, condition.word);
    return [about, said("prompt", question, []), own, other];
  }

  function answerCell(columns, i, words, own) {
    const cell = said("answer", columns.answer[i], words, own);
    const counted = columns.counted.length === 0 || columns.counted[i];
    const found = columns.words[i];
    const shown = found.length ? found.join(", ") : "other";
    const note = counted ? `counted: ${shown}` : "does not count";
    const about = element("div", found.includes(own) ? "about used" : "about", note);
    columns.judges.forEach((judge, number) => {
      const reply = columns.replies[number][i];
      if (reply !== null) about.append(replyLine(`judge ${judge}`, reply));
    });
    cell.append(about);
    return cell;
  }

  const seeds = (numbers) => `seed${numbers.length > 1 ? "s" : ""} ${numbers.join(", ")}`;

  function replyLine(name, reply) {
    const line = element("span", "", `${name}: `);
    if (reply === false) line.append("no usable reply");
    else line.append(text("q", "reply", reply, []));
    return line;
  }

  // --- text of models ---

  function element(tag, kind, content) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (content !== undefined) made.textContent = content;
    return made;
  }

  function said(kind, content, words, own) {
    const cell = document.createElement("td");
    cell.append(text("div", kind, content, words, own));
    return cell;
  }

  // An element with the text in its own direction, the counted words marked, and hidden characters by number.
  function text(tag, kind, content, words, own) {
    const made = element(tag, `said ${kind}`);
    made.dir = "auto";
    let from = 0;
    for (const { start, end, name } of occurrences(content, words)) {
      if (start < from) continue;
      addPlain(made, content.slice(from, start));
      made.append(element("mark", name === own ? "own" : "", content.slice(start, end)));
      from = end;
    }
    addPlain(made, content.slice(from));
    return made;
  }

  function addPlain(parent, content) {
    content.split(HIDDEN).forEach((piece, number) => {
      if (number % 2 === 0) parent.append(piece);
      else parent.append(element("span", "code-point", codePoint(piece)));
    });
  }

  const codePoint = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

  // Where an answer shows the counted words, as `Word.matches` of the package finds them.
  function occurrences(content, words) {
    const found = [];
    for (const [name, forms] of Object.entries(words)) {
      const longestFirst = [...forms].sort((a, b) => b.length - a.length);
      const escaped = longestFirst.map((form) => form.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
      const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(?:${escaped.join("|")})(?![\\p{L}\\p{N}])`, "giu");
      for (const match of content.matchAll(pattern))
        found.push({ start: match.index, end: match.index + match[0].length, name });
    }
    return found.sort((a, b) => a.start - b.start);
  }

  // --- filters, keys and the address ---

  // Sets the options of a filter. A value that the page does not have selects no rows if it is in the address
  // (a link to a rule of an earlier version), and is dropped if the user has changed the view.
  function fill(name, values, all, drop) {
    if (state[name] !== undefined && !values.some(([value]) => value === state[name])) {
      if (drop) delete state[name];
      else values = [...values, [state[name], `${state[name]} (no rows)`]];
    }
    const select = byId(name);
    select.replaceChildren(new Option(all, ""), ...values.map(([value, label]) => new Option(label, value)));
    select.value = state[name] ?? "";
    select.parentElement.hidden = values.length < 2;
  }

  function fillFilters(drop) {
    const completions = state.view === "completions";
    const used = new Set(completions
      ? index.datasets.flatMap((one) => one.conditions)
      : index.pairs.map((pair) => pair.condition));
    const conditions = [...used].sort((a, b) => a - b);
    const same = (value) => [String(value), String(value)];
    const unique = (values) => [...new Set(values)];
    fill("trait", unique(conditions.map((n) => index.conditions[n].trait)).map(same), "all", drop);
    fill("condition", conditions.map((n) => [String(n), index.conditions[n].label]), "all", drop);
    fill("source", completions ? index.sources.map((name, n) => [String(n), name]) : [], "all teachers", drop);
    fill("measure", completions ? [] : index.measures.map(same), "all", drop);
    const found = completions ? index.datasets.flatMap((one) => one.seeds) : index.pairs.map((pair) => pair.seed);
    fill("seed", unique(found).sort((a, b) => a - b).map(same), "all", drop);
    fill("outcome", completions ? completionOutcomes() : answerOutcomes(), "all", drop);
    byId("text").value = state.text ?? "";
    byId("completions").setAttribute("aria-pressed", String(completions));
    byId("answers").setAttribute("aria-pressed", String(!completions));
    byId("back").href = completions ? "report.html#data" : "report.html#effects";
    byId("legend").textContent = completions
      ? "Kept: a training row. Kept, not drawn: passed all rules and judges, and was not among the rows drawn."
      : "Highlighted: the counted words, the trait’s own word in yellow. Outcome: which of the two students shows " +
        "the trait in its answer to the same question with the same sample number.";
  }

  function completionOutcomes() {
    const all = index.datasets.flatMap((one) => one.outcomes);
    const rejected = [...new Set(all.filter(([, kind]) => kind === "rejected").map(([label]) => label))].sort();
    const isOther = ([, kind]) => kind === "spare" || kind === "unknown";
    const others = [...new Set(all.filter(isOther).map(([label]) => label))];
    return [["kept", "kept"], ["rejected", "rejected"], ...others.map((label) => [label, label]),
      ...rejected.map((label) => [label, `rejected: ${label}`])];
  }

  function answerOutcomes() {
    return ANSWER_OUTCOMES.map((label, n) => [label, n < 4 ? `trait: ${label}` : label]);
  }

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    const view = given.get("view");
    const first = index.pairs.length ? "answers" : "completions";
    state = { view: Object.hasOwn(OF_VIEW, view) ? view : first, page: 0 };
    for (const name of FILTERS) if (given.get(name)) state[name] = given.get(name);
    state.page = Math.max(0, (Number.parseInt(given.get("page"), 10) || 1) - 1);
    update();
  }

  function update(drop) {
    fillFilters(drop);
    const given = new URLSearchParams({ view: state.view });
    for (const name of FILTERS) if (state[name] !== undefined) given.set(name, state[name]);
    if (state.page) given.set("page", String(state.page + 1));
    history.replaceState(null, "", `#${given}`);
    return show();
  }

  function turn(pages) {
    if (byId(pages < 0 ? "previous" : "next").disabled) return;
    state.page += pages;
    window.scrollTo(0, 0);
    update();
  }

  function choose(name, value) {
    if (value) state[name] = value;
    else delete state[name];
    state.page = 0;
    update();
  }

  function setView(view) {
    state.view = view;
    for (const name of ["outcome", ...OF_VIEW.completions, ...OF_VIEW.answers]) delete state[name];
    state.page = 0;
    update(true);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing) return;
    const bottom = window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 2;
    if (event.key === "/") byId("text").focus();
    else if (event.key === "ArrowRight" || (event.key === "PageDown" && bottom)) turn(1);
    else if (event.key === "ArrowLeft" || (event.key === "PageUp" && window.scrollY === 0)) turn(-1);
    else return;
    event.preventDefault();
  }

  async function start() {
    if (typeof DecompressionStream === "undefined") {
      byId("status").textContent = "This browser cannot decompress the rows; use one from 2023 or later.";
      return;
    }
    index = await decompressed(document.querySelector("script.index"));
    for (const name of FILTERS.filter((filter) => filter !== "text"))
      byId(name).addEventListener("change", (event) => choose(name, event.target.value));
    let waiting;
    byId("text").addEventListener("input", (event) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => choose("text", event.target.value), SETTLED);
    });
    byId("clear").addEventListener("click", () => {
      state = { view: state.view, page: 0 };
      update();
    });
    byId("completions").addEventListener("click", () => setView("completions"));
    byId("answers").addEventListener("click", () => setView("answers"));
    byId("previous").addEventListener("click", () => turn(-1));
    byId("next").addEventListener("click", () => turn(1));
    document.addEventListener("keydown", onKey);
    window.addEventListener("hashchange", readAddress);
    readAddress();
  }

  start().catch((error) => {
    byId("status").textContent = `The rows cannot be shown: ${error.message}`;
  });
})();
