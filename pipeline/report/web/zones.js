// Lines and zones drawn over the scene, named, counted at once, and given out as TOML.
"use strict";
(() => {
  const { data, get, make } = marey, { width, height, tracks } = data;
  const drawing = get("drawing"), list = get("rules"), SVG = "http://www.w3.org/2000/svg";
  const LINE_KINDS = ["line_crossing", "wrong_way"], ZONE_KINDS = ["zone_entry", "zone_exit", "dwell", "occupancy", "stopped", "crowding", "appear", "disappear"];
  const TIMED = ["zone_entry", "zone_exit", "dwell", "occupancy", "stopped", "crowding", "wrong_way", "appear", "disappear"], COUNTED = ["occupancy", "crowding"];
  const NEEDED = { dwell: { min_duration_s: 5 }, stopped: { min_duration_s: 5 }, crowding: { min_count: 2 } };
  const camera = data.camera?.replace(/[[*?]/g, "[$&]");
  const rules = data.rules.map((rule) => ({ ...rule, points: rule.points.map(([x, y]) => [x * width, y * height]) }));
  let mode = null, points = [], cross = [width / 2, height / 2];

  function shape(tag, attributes) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  const text = (points) => points.map((point) => point.join(",")).join(" ");
  const clamp = ([x, y]) => [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)].map((v) => Math.round(v * 10) / 10);

  function place(event) {
    const box = drawing.getBoundingClientRect();
    return clamp([(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height]);
  }

  function handle(rule, k) {
    const [x, y] = rule.points[k];
    const node = shape("circle", { cx: x, cy: y, r: width / 90, fill: "#00d6d6", stroke: "#000", "stroke-width": width / 400,
      tabindex: 0, role: "button", "aria-label": `Point ${k + 1} of ${rule.name}` });
    const move = (point) => { rule.points[k] = clamp(point); draw(); count(); };
    node.addEventListener("pointerdown", (event) => {
      if (mode) return;
      event.preventDefault();
      const drag = (moved) => move(place(moved));
      window.addEventListener("pointermove", drag);
      window.addEventListener("pointerup", () => window.removeEventListener("pointermove", drag), { once: true });
    });
    node.addEventListener("keydown", (event) => {
      const step = arrow(event);
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const number = rules.indexOf(rule);
      move([rule.points[k][0] + step[0], rule.points[k][1] + step[1]]);
      drawing.querySelector(`[data-rule="${number}"][data-point="${k}"]`)?.focus();
    });
    node.dataset.rule = rules.indexOf(rule);
    node.dataset.point = k;
    return node;
  }

  function arrow(event) {
    const size = width / 200 * (event.shiftKey ? 8 : 1);
    return { ArrowLeft: [-size, 0], ArrowRight: [size, 0], ArrowUp: [0, -size], ArrowDown: [0, size] }[event.key];
  }

  function arrowHead(rule) {
    const [[ax, ay], [bx, by]] = rule.points, length = Math.hypot(bx - ax, by - ay) || 1, size = width / 25;
    const [mx, my] = [(ax + bx) / 2, (ay + by) / 2];
    // To the right of the line as displayed: "left to right"
    const [ux, uy] = [-(by - ay) / length, (bx - ax) / length], at = (along, aside) => [mx + ux * along - uy * aside, my + uy * along + ux * aside];
    return shape("path", { d: `M${at(0, 0)}L${at(size, 0)}M${at(size * 0.6, size * 0.3)}L${at(size, 0)}L${at(size * 0.6, -size * 0.3)}`,
      fill: "none", stroke: "#ffb000", "stroke-width": width / 250 });
  }

  function draw() {
    const nodes = [], names = [], labels = {}, letter = Math.max(width / 60, 13 * width / (drawing.clientWidth || width)), line = 1.2 * letter;
    for (const rule of rules) {
      const corner = rule.points[0].join(" "), above = labels[corner] = (labels[corner] ?? -1) + 1; // rules may share a place
      nodes.push(shape(rule.closed ? "polygon" : "polyline", { points: text(rule.points), fill: rule.closed ? "#00d6d640" : "none", stroke: "#00d6d6", "stroke-width": width / 250 }));
      if (!rule.closed) nodes.push(arrowHead(rule));
      const label = shape("text", { x: rule.points[0][0], y: Math.max(line, rule.points[0][1] - width / 60 - above * line), fill: "#fff", stroke: "#000", "stroke-width": width / 200, "paint-order": "stroke", "pointer-events": "none", "font-size": letter });
      label.textContent = rule.name;
      nodes.push(...rule.points.map((_, k) => handle(rule, k)));
      names.push(label);
    }
    nodes.push(...names);
    if (mode) {
      nodes.push(shape("polyline", { points: text([...points, cross]), fill: "none", stroke: "#ff3d71", "stroke-width": width / 250 }));
      nodes.push(shape("path", { d: `M${cross[0] - width / 50},${cross[1]}h${width / 25}M${cross[0]},${cross[1] - width / 50}v${width / 25}`, stroke: "#ff3d71", "stroke-width": width / 400 }));
    }
    drawing.replaceChildren(...nodes);
  }

  function tally(table) {
    const total = Object.values(table).reduce((a, b) => a + b, 0);
    const parts = Object.entries(table).sort().map(([kind, number]) => `${kind} ${number}`).join(", ");
    return parts ? `${total} (${parts})` : "0";
  }

  // Of a zone all that its kinds of rules would count, with the rule's own numbers for its kind.
  function toldOfZone(rule) {
    const options = { ...NEEDED[rule.kind], ...rule.rest }, least = options.min_duration_s ?? 0;
    const of = (kind, other) => (rule.kind === kind ? least : other), dwell = of("dwell", 5);
    const found = counting.visits(tracks, rule.points, width, height, options,
      { entry: of("zone_entry", 0), exit: of("zone_exit", 0), dwell });
    const counted = COUNTED.includes(rule.kind), enough = counted ? options.min_count ?? 1 : 1, time = counted ? least : 0;
    const busy = counting.occupancy(tracks, rule.points, width, height, { ...options, hold_s: data.hold_s, min_count: enough, min_duration_s: time });
    return [`entries ${tally(found.entries)}; exits ${tally(found.exits)}`,
      `stays of ${dwell} s or more ${tally(found.dwells)}` + (found.longest ? `, the longest ${found.longest.toFixed(1)} s` : ""),
      `${enough} or more inside${time ? ` for ${time} s or more` : ""} ${busy.times} time${busy.times === 1 ? "" : "s"}` +
        (busy.times ? `, ${busy.most} at most, the longest ${busy.longest.toFixed(1)} s` : "")].join("\n");
  }

  function told(rule) {
    const options = rule.rest;
    if (rule.closed) return toldOfZone(rule);
    const found = counting.crossings(tracks, rule.points, width, height, options);
    return `left to right ${tally(found.left_to_right)}; right to left ${tally(found.right_to_left)}`;
  }

  const applies = (key, kind) => (key !== "min_duration_s" || TIMED.includes(kind)) && (key !== "min_count" || COUNTED.includes(kind));

  const quote = (value) => JSON.stringify(value).replace(/\x7f/g, "\\u007f");

  function toml() {
    return rules.map((rule) => {
      const corners = rule.points.map(([x, y]) => `[${(x / width).toFixed(4)}, ${(y / height).toFixed(4)}]`).join(", ");
      const rest = { ...NEEDED[rule.kind], ...(camera ? { cameras: camera } : {}), ...rule.rest };
      return ["[[rules]]", `name = ${quote(rule.name)}`, `kind = ${quote(rule.kind)}`, `${rule.closed ? "zone" : "line"} = [${corners}]`,
        ...Object.entries(rest).filter(([key]) => applies(key, rule.kind)).map(([key, value]) => `${key} = ${quote(value)}`)].join("\n") + "\n";
    }).join("\n");
  }

  function count() {
    rules.forEach((rule, k) => { list.children[k].querySelector("output").textContent = told(rule); });
    get("toml").value = toml();
  }

  // A labelled number of a rule.
  function number(rule, key, text, min, step) {
    const label = make("label", text + " at least"), input = make("input", undefined, { type: "number", min, step });
    label.dataset.key = key;
    label.append(input);
    input.addEventListener("input", () => {
      if (!input.checkValidity() || input.value === "") return;
      rule.rest[key] = input.valueAsNumber;
      count();
    });
    return label;
  }

  function row(rule) {
    const item = make("li"), head = make("div", undefined, { class: "row" });
    const name = make("input", undefined, { "aria-label": "Name", value: rule.name });
    const kind = make("select", undefined, { "aria-label": "Kind of " + rule.name });
    for (const value of rule.closed ? ZONE_KINDS : LINE_KINDS) kind.append(make("option", value.replaceAll("_", " "), { value }));
    kind.value = rule.kind;
    const gone = make("button", "Delete", { "aria-label": "Delete " + rule.name });
    const seconds = number(rule, "min_duration_s", "seconds", 0, "any"), least = number(rule, "min_count", "objects", 1, 1);
    const fit = () => {
      for (const [key, value] of Object.entries(NEEDED[rule.kind] ?? {})) rule.rest[key] ??= value;
      seconds.hidden = !TIMED.includes(rule.kind);
      least.hidden = !COUNTED.includes(rule.kind);
      seconds.lastElementChild.min = NEEDED[rule.kind]?.min_duration_s ? 0.1 : 0;
      least.lastElementChild.min = NEEDED[rule.kind]?.min_count ?? 1;
      for (const part of [seconds, least]) part.lastElementChild.value = rule.rest[part.dataset.key] ?? part.lastElementChild.min;
    };
    name.addEventListener("input", () => { rule.name = name.value; draw(); count(); });
    kind.addEventListener("change", () => { rule.kind = kind.value; fit(); count(); });
    gone.addEventListener("click", () => { rules.splice(rules.indexOf(rule), 1); show(); });
    head.append(name, kind, seconds, least, gone);
    fit();
    item.append(head, make("output"));
    return item;
  }

  function show() {
    list.replaceChildren(...rules.map(row));
    draw();
    count();
  }

  function free(word) {
    let n = 1;
    while (rules.some((rule) => rule.name === `${word} ${n}`)) n++;
    return `${word} ${n}`;
  }

  function choose(next) {
    mode = next;
    points = [];
    for (const id of ["line", "zone"]) get(id).setAttribute("aria-pressed", String(mode === id));
    draw();
  }

  function finish() {
    if (!mode || points.length < (mode === "line" ? 2 : 3)) { marey.say("A line needs two points, a zone three."); return; }
    rules.push({ name: free(mode), kind: mode === "line" ? "line_crossing" : "zone_entry", points, closed: mode === "zone", rest: {} });
    marey.say(`${rules.at(-1).name}: ${told(rules.at(-1))}`);
    choose(null);
    show();
  }

  function add(point) {
    if (!mode) { marey.say("Choose a line or a zone first."); return; }
    points.push(point);
    if (mode === "line" && points.length === 2) finish(); else draw();
  }

  drawing.addEventListener("click", (event) => { if (mode) add(place(event)); });
  drawing.addEventListener("pointermove", (event) => { if (mode) { cross = place(event); draw(); } });
  drawing.addEventListener("keydown", (event) => {
    const step = arrow(event);
    if (step) cross = clamp([cross[0] + step[0], cross[1] + step[1]]);
    else if (event.key === "Enter") add([...cross]);
    else if (event.key.toLowerCase() === "f") finish();
    else if (event.key === "Escape") choose(null);
    else return;
    event.preventDefault();
    draw();
  });
  get("line").addEventListener("click", () => choose("line"));
  get("zone").addEventListener("click", () => choose("zone"));
  get("finish").addEventListener("click", finish);
  get("cancel").addEventListener("click", () => choose(null));
  get("copy").addEventListener("click", () => {
    get("toml").select();
    const copied = document.execCommand("copy"); // navigator.clipboard is not there for pages from files
    marey.say(copied ? "Copied." : "Not copied: the text is selected, copy it yourself.");
  });
  get("save").addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([get("toml").value], { type: "text/plain" }));
    make("a", undefined, { href: address, download: "rules.toml" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
  show();
})();
