// Code that is wider than the page is scrolled by the keyboard too, and the two sidebars have names.
addEventListener("DOMContentLoaded", () => {
  for (const code of document.querySelectorAll("div.highlight > pre")) code.tabIndex = 0;
  document.querySelector("aside.sidebar-drawer")?.setAttribute("aria-label", "Contents of the site");
  document.querySelector("aside.toc-drawer")?.setAttribute("aria-label", "Contents of the page");
});
