"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");
  const holders = [...document.querySelectorAll("[data-figure]")];

  const draw = (theme) => {
    for (const holder of holders) {
      const source = document.getElementById(`${holder.dataset.figure}-${theme}`);
      const figure = JSON.parse(source.textContent);
      // A finger on a chart should scroll the page, not select a range.
      figure.layout.dragmode = coarse.matches ? false : "zoom";
      Plotly.react(holder, figure.data, figure.layout, { responsive: true, displayModeBar: false });
    }
  };
  const drawForScreen = () => draw(dark.matches ? "dark" : "light");
  drawForScreen();
  dark.addEventListener("change", drawForScreen);

  // On paper everything is light and open.
  let opened = [];
  addEventListener("beforeprint", () => {
    draw("light");
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
    drawForScreen();
  });

  const filter = document.querySelector(".filter");
  if (filter) {
    filter.hidden = false;
    filter.addEventListener("change", () => {
      const wanted = new Set([...filter.querySelectorAll("input:checked")].map((box) => box.value));
      for (const item of document.querySelectorAll(".events li")) item.hidden = !wanted.has(item.dataset.kind);
    });
  }

  // A link to a gate opens it.
  const openTarget = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", openTarget);
  openTarget();
})();
