"use strict";
// Fills the page with charts from the report itself, which the page carries as gzip in base64.
(() => {
  const $ = (id) => document.getElementById(id);

  async function unpacked() {
    const packed = atob($("report").textContent.trim());
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  function filters() {
    const [find, show, found] = [$("find"), $("show"), $("found")];
    if (!find) return;
    const rows = [...$("gate-table").tBodies[0].rows];
    const apply = () => {
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
    if (rows.length > 8) document.querySelector(".tools").hidden = false;
  }

  function opened(hash) {
    const target = hash && document.getElementById(hash.slice(1));
    if (target?.tagName === "DETAILS") target.open = true;
  }

  function drawWhenSeen(report) {
    const draw = (into) => charts[into.dataset.chart](report, into);
    const places = document.querySelectorAll("[data-chart]");
    const seen = new Set();
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting || seen.has(entry.target)) continue;
        seen.add(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "200px" });
    places.forEach((place) => watch.observe(place));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => seen.forEach(draw));
    addEventListener("beforeprint", () => {
      document.querySelectorAll("details.unfolds").forEach((each) => (each.open = true));
      places.forEach((place) => { if (!seen.has(place)) { seen.add(place); draw(place); } });
    });
  }

  function download(text) {
    const button = $("download");
    button.hidden = false;
    button.addEventListener("click", () => {
      const link = drawing.make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "report.json" });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  filters();
  opened(location.hash);
  addEventListener("hashchange", () => opened(location.hash));
  unpacked().then((text) => {
    drawWhenSeen(JSON.parse(text));
    download(text);
    document.documentElement.dataset.ready = "yes";
  });
})();
