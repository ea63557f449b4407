// What all parts of a page share: its data, small helpers. Text reaches the page as text nodes only.
"use strict";
const marey = { data: JSON.parse(document.getElementById("data").textContent) };

marey.get = (id) => document.getElementById(id);

marey.make = (tag, text, attributes = {}) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

marey.say = (text) => { marey.get("notice").textContent = text; };

// Index of the first element of a rising array that is above a value.
marey.above = (values, value, low = 0, high = values.length) => {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > value) high = middle; else low = middle + 1;
  }
  return low;
};

marey.clockText = (t) => {
  const whole = Math.floor(t), hours = Math.floor(whole / 3600);
  const rest = String(Math.floor(whole / 60) % 60).padStart(2, "0") + ":" + String(whole % 60).padStart(2, "0");
  return (hours ? hours + ":" : "") + rest;
};

// A canvas as large as its place, in sharp pixels; returns its context in CSS pixels.
marey.fit = (canvas, width, height) => {
  const sharp = window.devicePixelRatio || 1;
  const w = Math.round(width * sharp), h = Math.round(height * sharp);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const pen = canvas.getContext("2d");
  pen.setTransform(sharp, 0, 0, sharp, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
};
