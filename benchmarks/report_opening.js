"use strict";
// Opens the pages that report_opening.py names on standard input, in turns, and tells of each
// opening, in ms since the navigation began: when the page's script had run, when a reader who goes
// to the first chart at once sees it drawn, and when the last task over 50 ms had ended; and what
// CPU time the main thread and the whole process of the page took by then.
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const puppeteer = require(path.resolve(asked.modules, "puppeteer-core"));
const LIMIT = 120_000;
const REST = 1_000;

// Runs in the page, before anything of its own does.
function watching() {
  const at = (globalThis.at = { long: 0 });
  const frames = (then) => requestAnimationFrame(() => requestAnimationFrame(then));
  const jump = () => {
    const unfolded = document.querySelector("[data-chart]");
    if (unfolded) return unfolded.scrollIntoView();
    const fold = document.querySelector("details.unfolds");
    if (fold) fold.open = true;
    // What is folded is made after the event.
    setTimeout(() => document.querySelector("[data-chart]")?.scrollIntoView());
  };
  new MutationObserver(() => {
    if (!at.ready && document.documentElement?.dataset.ready) {
      at.ready = performance.now();
      jump();
    }
    if (!at.drawn && document.querySelector(".uplot canvas")) {
      at.drawn = true;
      frames(() => { at.chart = performance.now(); });
    }
  }).observe(document, { attributes: true, childList: true, subtree: true });
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) at.long = Math.max(at.long, task.startTime + task.duration);
  }).observe({ type: "longtask", buffered: true });
}

async function opening(browser, file) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT);
  await page.setViewport({ width: 1200, height: 900 });
  await page.evaluateOnNewDocument(watching);
  const session = await page.createCDPSession();
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const spent = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    const of = (name) => 1000 * metrics.find((each) => each.name === name).value;
    return { main: of("TaskDuration"), process: of("ProcessTime") };
  };
  const load = os.loadavg()[0];
  const before = await spent();
  await page.goto(`file://${path.resolve(file)}`);
  await page.waitForFunction("globalThis.at?.chart");
  await new Promise((done) => setTimeout(done, REST));
  const after = await spent();
  const at = await page.evaluate(() => globalThis.at);
  await context.close();
  return {
    ready_ms: at.ready, chart_ms: at.chart, quiet_ms: Math.max(at.ready, at.long),
    // A page in a process of its own starts at zero; one in a process that was there does not.
    main_cpu_ms: after.main - Math.min(before.main, after.main), process_cpu_ms: after.process,
    load,
  };
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: asked.chromium, headless: true, timeout: LIMIT, protocolTimeout: LIMIT,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
  const version = await browser.version();
  const told = Object.fromEntries(asked.pages.map((file) => [file, []]));
  for (let time = 0; time < asked.times; time++) {
    for (const file of asked.pages) told[file].push(await opening(browser, file));
  }
  await browser.close();
  process.stdout.write(JSON.stringify({ version, told }));
})().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
