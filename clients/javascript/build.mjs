// Makes of src/ what is given away: turnpike.js, an ES module, and turnpike.classic.js, a script that leaves `Turnpike`.
// With --check it only says whether they are what src/ makes.

import { readFileSync, writeFileSync } from "node:fs";

const PARTS = ["failure", "answer", "stream", "socket", "http", "subscription", "publishes", "ways", "client"];
const OFFERED = "{ Client, EventStream, Room, Subscription, TurnpikeError }";
const HEAD = "// Turnpike for browsers and every other JavaScript: docs/clients.md. Made of clients/javascript/src by build.mjs.\n";

const file = (name) => new URL(name, import.meta.url);
const part = (name) => readFileSync(file(`src/${name}.js`), "utf8").replace(/^import .*\n/gm, "").replace(/^export /gm, "");
const body = PARTS.map(part).join("\n");
const made = {
  "turnpike.js": `${HEAD}\n${body}\nexport ${OFFERED};\n`,
  "turnpike.classic.js": `${HEAD}\nvar Turnpike = (() => {\n"use strict";\n\n${body}\nreturn ${OFFERED};\n})();\n`,
};

for (const [name, text] of Object.entries(made)) {
  if (!process.argv.includes("--check")) writeFileSync(file(name), text);
  else if (readFileSync(file(name), "utf8") !== text) {
    console.error(`clients/javascript/${name} is not what src/ makes: node clients/javascript/build.mjs`);
    process.exitCode = 1;
  }
}
