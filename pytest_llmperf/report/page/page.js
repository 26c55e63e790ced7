"use strict";
// Makes of the page what needs a script: what is folded when it is unfolded, charts when they come
// into view. The report itself, which the page carries as gzip in base64, is unpacked for the first
// chart, or when there is nothing else to do.
(() => {
  const $ = (id) => document.getElementById(id);
  const AHEAD = { rootMargin: "200px" };
  const dark = matchMedia("(prefers-color-scheme: dark)");

  async function unpacked() {
    const packed = atob($("report").textContent.trim());
    const bytes = new Uint8Array(packed.length);
    for (let at = 0; at < packed.length; at++) bytes[at] = packed.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  let report = null;
  let asked = null;
  const read = () => (asked ??= unpacked().then((text) => { report = JSON.parse(text); }));

  // --- charts -----------------------------------------------------------------------------------

  const drawn = new Set();
  const draw = (into) => charts[into.dataset.chart](report, into);
  const charted = new IntersectionObserver((entries) => {
    const seen = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    if (seen.length) read().then(() => seen.forEach(drawOnce));
  }, AHEAD);

  function drawOnce(into) {
    if (drawn.has(into)) return;
    drawn.add(into);
    charted.unobserve(into);
    draw(into);
  }

  const watch = (within) => within.querySelectorAll("[data-chart]").forEach((into) => charted.observe(into));

  // --- what is folded ---------------------------------------------------------------------------

  // A noscript holds markup as text where scripts run; all of it was escaped as the page was made.
  function made(late) {
    const holder = document.createElement("template");
    holder.innerHTML = late.textContent;
    return holder.content;
  }

  function unfold(details) {
    for (const late of details.querySelectorAll(":scope > noscript[data-late]")) late.replaceWith(made(late));
    watch(details);
  }

  // Rows beyond the first few hundred are made as one comes near the end of the table.
  function nextRows() {
    const late = document.querySelector(".gates + noscript[data-late]");
    if (!late) return false;
    $("gate-table").tBodies[0].append(...made(late).querySelectorAll("tbody > tr"));
    late.remove();
    return true;
  }

  function allRows() {
    while (nextRows());
    return [...$("gate-table").tBodies[0].rows];
  }

  function rowsWhenSeen() {
    const last = () => $("gate-table")?.tBodies[0].lastElementChild;
    const near = new IntersectionObserver(([entry]) => {
      if (!entry.isIntersecting) return;
      near.disconnect();
      if (nextRows()) near.observe(last());
    }, AHEAD);
    if (last()) near.observe(last());
  }

  // --- the reader -------------------------------------------------------------------------------

  function filters() {
    const [find, show, found] = [$("find"), $("show"), $("found")];
    if (!find) return;
    const apply = () => {
      const rows = allRows();
      const text = find.value.toLowerCase();
      let left = 0;
      for (const row of rows) {
        const fits = (!show.value || row.dataset.verdict === show.value) && row.textContent.toLowerCase().includes(text);
        row.hidden = !fits;
        left += fits;
      }
      found.textContent = left === rows.length ? "" : `${left} of ${rows.length}`;
    };
    find.addEventListener("input", apply);
    show.addEventListener("change", apply);
    if ($("gate-table").tBodies[0].rows.length > 8) document.querySelector(".tools").hidden = false;
  }

  function opened(hash) {
    const target = hash && document.getElementById(hash.slice(1));
    if (target?.tagName === "DETAILS") target.open = true;
  }

  // Paper is light, and nobody scrolls or unfolds on it.
  function onPaper() {
    document.documentElement.classList.add("paper");
    document.querySelectorAll("details.unfolds").forEach((each) => {
      each.open = true;
      unfold(each);
    });
    if ($("gate-table")) allRows();
    if (!report) return;
    if (dark.matches) drawn.forEach(draw);
    document.querySelectorAll("[data-chart]").forEach(drawOnce);
  }

  function offPaper() {
    document.documentElement.classList.remove("paper");
    if (dark.matches) drawn.forEach(draw);
  }

  function download() {
    const button = $("download");
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = await unpacked();
      const link = drawing.make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "report.json" });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  // "toggle" does not bubble.
  addEventListener("toggle", ({ target }) => { if (target.open) unfold(target); }, true);
  addEventListener("hashchange", () => opened(location.hash));
  addEventListener("beforeprint", onPaper);
  addEventListener("afterprint", offPaper);
  dark.addEventListener("change", () => drawn.forEach(draw));
  filters();
  rowsWhenSeen();
  download();
  opened(location.hash);
  watch(document);
  document.documentElement.dataset.ready = "yes";
  // Who prints at once finds the charts there.
  (globalThis.requestIdleCallback ?? setTimeout)(read);
})();
