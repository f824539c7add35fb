"use strict";
// What the page knows of every point, by "dataset/entrant/nfe"; evaluation/site/points.py writes it.
const STUDY = JSON.parse(document.getElementById("study").textContent);

// An element with attributes and children. Text stays text: nothing is read as HTML.
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return made;
}

const words = (text) => String(text).replaceAll("_", " ");
