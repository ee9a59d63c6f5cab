// Draws each chart of the page with Vega, in the reader's colours and at the width there is.
// Without scripts, and on paper, the still picture beside it is shown instead.
(() => {
  "use strict";
  const themes = /*THEMES*/;
  const scheme = matchMedia("(prefers-color-scheme: dark)");

  const fitted = (element, spec) => {
    if (!spec.width) return spec; // joined charts keep their own size
    const room = element.clientWidth;
    const data = element.dataset;
    const width = Math.max(Number(data.minWidth), Math.min(room, Number(data.maxWidth)));
    const ratio = data.keepAspect === "true" ? width / spec.width : 1;
    return { ...spec, width, height: Math.round(spec.height * ratio) };
  };

  const draw = async (element) => {
    const room = element.clientWidth;
    const look = scheme.matches ? "dark" : "light";
    const key = `${room} ${look}`;
    if (room === 0 || element.dataset.drawn === key) return; // hidden, or nothing changed
    element.dataset.drawn = key;
    const spec = JSON.parse(element.querySelector("script").textContent);
    const result = await vegaEmbed(element.querySelector(".live"), fitted(element, spec), {
      actions: { export: true, source: false, compiled: false, editor: false },
      ast: true, // interpret expressions: the page allows no code made from text
      config: themes[look],
      downloadFileName: element.dataset.name,
      mode: "vega-lite",
      renderer: "svg",
      theme: "none",
      tooltip: { theme: look },
    });
    if (element.finalize) element.finalize();
    element.finalize = result.finalize;
    element.classList.add("drawn");
  };

  const charts = [...document.querySelectorAll(".chart")];
  const attempt = (element) =>
    draw(element).catch((error) => {
      element.classList.remove("drawn"); // the still picture returns
      console.error(element.dataset.name, error);
    });
  let waiting = 0;
  const all = () => charts.forEach(attempt);
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(all, 120);
  };
  all();
  scheme.addEventListener("change", all);
  const watcher = new ResizeObserver(later);
  charts.forEach((element) => watcher.observe(element));
})();
