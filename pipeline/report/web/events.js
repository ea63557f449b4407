// The list of events: what a screen reader reads and the keyboard reaches.
"use strict";
marey.events = (() => {
  const { events, event: wanted } = marey.data;
  const list = marey.get("events"), filter = marey.get("filter"), STEP = 200;
  let shown = [], number = 0, current = -1;

  function item(event) {
    const text = `${event.t0.toFixed(2)} s  ${marey.overlay.captionText(event)}` +
      (event.t1 - event.t0 >= 0.05 ? `  for ${(event.t1 - event.t0).toFixed(1)} s` : "") + `  score ${event.score.toFixed(2)}`;
    const button = marey.make("button", text, { "data-event": event.id });
    button.addEventListener("click", () => go(events.indexOf(event)));
    const row = marey.make("li");
    row.append(button);
    return row;
  }

  function more() {
    list.querySelector(".more")?.remove();
    list.append(...shown.slice(number, number + STEP).map(item));
    number = Math.min(number + STEP, shown.length);
    if (number < shown.length) {
      const row = marey.make("li", undefined, { class: "more" });
      row.append(marey.make("button", `Show more: ${shown.length - number} are left`));
      row.firstElementChild.addEventListener("click", more);
      list.append(row);
    }
  }

  function fill() {
    shown = filter.value ? events.filter((event) => event.label === filter.value) : events;
    number = 0;
    list.replaceChildren(...(shown.length ? [] : [marey.make("li", "none")]));
    if (shown.length) more();
  }

  function mark(k) {
    current = k;
    list.querySelector("[aria-current]")?.removeAttribute("aria-current");
    list.querySelector(`[data-event="${CSS.escape(events[k].id)}"]`)?.setAttribute("aria-current", "true");
  }

  function go(k) {
    if (k < 0 || k >= events.length) return;
    mark(k);
    marey.clock.seek(events[k].t0);
  }

  // From where we are in time, unless we stand at an event: then from that one.
  function step(by) {
    const t = marey.clock.now;
    const stands = current >= 0 && Math.abs(events[current].t0 - t) < 0.05;
    if (by > 0) go(stands ? current + 1 : marey.above(events.map((event) => event.t0), t + 0.02));
    else go(stands ? current - 1 : marey.above(events.map((event) => event.t0), t - 0.05) - 1);
  }

  function begin() {
    for (const label of [...new Set(events.map((event) => event.label))].sort()) {
      filter.append(marey.make("option", label, { value: label }));
    }
    filter.addEventListener("change", fill);
    fill();
    const k = events.findIndex((event) => event.id === wanted);
    if (k >= 0) mark(k);
  }

  return { begin, step };
})();
