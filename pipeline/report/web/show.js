// Buttons and keys, and the start of the page.
"use strict";
(() => {
  const { clock, overlay, timeline, events, data, get } = marey;
  const seek = get("seek"), play = get("play"), now = get("now");

  clock.listen((t, playing) => {
    overlay.draw(t);
    timeline.draw();
    if (document.activeElement !== seek || playing) seek.value = t;
    seek.setAttribute("aria-valuetext", `${t.toFixed(1)} of ${data.duration.toFixed(1)} seconds`);
    now.textContent = `${marey.clockText(t)} (${t.toFixed(2)} s)`;
    play.textContent = playing ? "Pause" : "Play";
  });

  seek.addEventListener("input", () => clock.seek(Number(seek.value)));
  play.addEventListener("click", clock.toggle);
  get("back").addEventListener("click", () => events.step(-1));
  get("next").addEventListener("click", () => events.step(1));
  get("closer").addEventListener("click", () => timeline.zoom(0.5));
  get("farther").addEventListener("click", () => timeline.zoom(2));
  get("speed").addEventListener("change", (event) => clock.setSpeed(Number(event.target.value)));
  for (const id of ["boxes", "trails", "names", "places"]) get(id).addEventListener("change", () => overlay.draw(clock.now));
  window.addEventListener("resize", () => overlay.draw(clock.now));

  const frame = 1 / data.fps;
  const go = (by) => { clock.pause(); clock.seek(clock.now + by); };
  const keys = {
    " ": clock.toggle, ArrowLeft: () => go(-1), ArrowRight: () => go(1), ",": () => go(-frame), ".": () => go(frame),
    n: () => events.step(1), p: () => events.step(-1), "+": () => timeline.zoom(0.5), "-": () => timeline.zoom(2),
    Home: () => go(-Infinity), End: () => go(Infinity),
  };
  document.addEventListener("keydown", (event) => {
    const tag = event.target.tagName, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.altKey || event.metaKey || tag === "SELECT" || tag === "TEXTAREA") return;
    if (key === " " && (tag === "BUTTON" || tag === "SUMMARY" || event.target.type === "checkbox")) return;
    if (!keys[key]) return;
    event.preventDefault();
    keys[key]();
  });

  events.begin();
  timeline.begin();
  clock.begin();
  overlay.draw(clock.now);
})();
