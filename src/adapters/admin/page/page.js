"use strict";
const line = document.getElementById("line");
async function look() {
  try {
    const response = await fetch("status");
    const text = response.ok ? (await response.json()).headline.what : await response.text();
    if (line.textContent !== text) line.textContent = text;
  } catch {
    line.textContent = "no answer from handoff";
  }
}
look();
setInterval(look, 5000);
