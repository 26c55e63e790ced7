"use strict";
// Takes the pictures that report_pictures.py asks for on standard input, and tells what each page
// had to complain of: its console, what it fetched, axe, and anything wider than the window.
const fs = require("node:fs");
const path = require("node:path");

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const puppeteer = require(path.resolve(asked.modules, "puppeteer-core"));
const axe = fs.readFileSync(path.resolve(asked.modules, "axe-core", "axe.min.js"), "utf8");
const LIMIT = 120_000;
const rest = (ms) => new Promise((done) => setTimeout(done, ms));

async function opened(browser, shot, trouble) {
  const page = await browser.newPage();
  page.setDefaultTimeout(LIMIT);
  page.on("console", (told) => trouble.push(`console: ${told.text()}`));
  page.on("pageerror", (error) => trouble.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => { trouble.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    if (!/^(file|data|blob):/.test(request.url())) trouble.push(`fetched: ${request.url()}`);
  });
  await page.setViewport({ width: shot.width, height: 800 });
  if (shot.dark) await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  const began = Date.now();
  await page.goto(`file://${path.resolve(asked.place, shot.page)}.html`);
  await page.waitForFunction('document.documentElement.dataset.ready === "yes"');
  return [page, Date.now() - began];
}

// Charts are drawn as they come into view.
async function scrolled(page) {
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  for (let y = 0; y < Math.min(height, 8000); y += 500) {
    await page.evaluate((to) => scrollTo(0, to), y);
    await rest(150);
  }
  await page.evaluate(() => scrollTo(0, 0));
  await rest(400);
}

async function complaints(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  return [...violations.map((each) => `axe: ${each.id}, ${each.nodes.length} times`), ...(wide > 0 ? [`${wide} px too wide`] : [])];
}

async function taken(browser, shot) {
  const trouble = [];
  const [page, ready] = await opened(browser, shot, trouble);
  if (shot.print) {
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    await page.emulateMediaType("print");
  }
  await scrolled(page);
  if (shot.print) {
    const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    if (paper !== "rgb(255, 255, 255)") trouble.push(`it prints on ${paper}`);
  }
  trouble.push(...await complaints(page));
  const [top, height] = await page.evaluate((from) => [
    from ? document.querySelector(from).getBoundingClientRect().top + scrollY - 12 : 0,
    document.documentElement.scrollHeight,
  ], shot.from);
  const clip = { x: 0, y: top, width: shot.width, height: Math.min(shot.height, height - top) };
  await page.screenshot({ path: path.resolve(asked.place, `${shot.name}.png`), clip, captureBeyondViewport: true });
  await page.close();
  return { ready_ms: ready, trouble };
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: asked.chromium, headless: true, timeout: LIMIT, protocolTimeout: LIMIT,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
  const told = {};
  for (const shot of asked.shots) told[shot.name] = await taken(browser, shot);
  await browser.close();
  process.stdout.write(JSON.stringify(told));
})().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
