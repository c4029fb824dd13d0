// What a page does besides being read: it takes on Airflow's theme, leads to Airflow's own pages out of their frame,
// and lets arrow keys walk along a chart. Everything works without it too.
(() => {
  "use strict";
  const framed = window.parent !== window;

  const outer = () => {
    try {
      return framed ? window.parent.document.documentElement : null;
    } catch {
      return null; // framed by a page of another origin
    }
  };

  const wanted = () => {
    const above = outer();
    if (above?.dataset.theme) return above.dataset.theme;
    if (above?.classList.contains("dark")) return "dark";
    if (above?.classList.contains("light")) return "light";
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  };

  const dress = () => {
    const theme = wanted();
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  dress();
  const above = outer();
  if (above) new MutationObserver(dress).observe(above, { attributeFilter: ["class", "data-theme"] });

  const leaveTheFrame = () => {
    for (const link of document.querySelectorAll("a[data-airflow]")) {
      link.addEventListener("click", (event) => {
        if (!outer() || event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        // A link of the outer page, since a frame may not lead its parent elsewhere.
        const theirs = window.parent.document.createElement("a");
        theirs.href = link.href;
        window.parent.document.body.append(theirs);
        theirs.click();
        theirs.remove();
      });
    }
  };

  const walkTheChart = () => {
    const chart = document.getElementById("chart");
    const columns = chart ? [...chart.querySelectorAll("a.column")] : [];
    if (!columns.length) return;
    const reachable = (column) => columns.forEach((each) => each.setAttribute("tabindex", each === column ? "0" : "-1"));
    reachable(columns.at(-1));
    chart.addEventListener("keydown", (event) => {
      const here = columns.indexOf(document.activeElement);
      const steps = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: columns.length - 1 };
      const next = columns[steps[event.key]];
      if (here < 0 || !next) return;
      event.preventDefault();
      reachable(next);
      next.focus();
    });
    chart.scrollLeft = chart.scrollWidth; // where the newest check is
  };

  const fitTheReport = () => {
    const frame = document.querySelector("iframe.report");
    if (!frame) return;
    const fit = () => {
      const page = frame.contentDocument?.documentElement;
      if (page) frame.height = page.scrollHeight + 2;
    };
    const fitted = () => {
      fit();
      const page = frame.contentDocument?.body;
      if (page) new ResizeObserver(fit).observe(page);
    };
    frame.addEventListener("load", fitted);
    if (frame.contentDocument?.readyState === "complete") fitted();
  };

  document.addEventListener("DOMContentLoaded", () => {
    leaveTheFrame();
    walkTheChart();
    fitTheReport();
  });
})();
