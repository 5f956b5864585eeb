// turnpike.d.ts is written by hand: that it says what the module has, and that programs compile against it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import * as offered from "../turnpike.js";

const { default: ts } = await import(process.env.TURNPIKE_TYPESCRIPT);
const path = (name) => fileURLToPath(new URL(name, import.meta.url));

const program = ts.createProgram([path("program.ts")], {
  strict: true,
  noEmit: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  lib: ["lib.es2022.d.ts", "lib.dom.d.ts"],
  types: [],
});
const types = program.getSourceFile(path("../turnpike.d.ts"));
const checker = program.getTypeChecker();
const declared = checker.getExportsOfModule(checker.getSymbolAtLocation(types)).filter(({ flags }) => flags & ts.SymbolFlags.Value);

test("a program that uses all of it compiles", () => {
  const faults = ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const line = file ? file.getLineAndCharacterOfPosition(start).line + 1 : 0;
    return `${file?.fileName}:${line}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`;
  });
  assert.deepEqual(faults, []);
});

test("what is exported is in the types, and the other way round", () => {
  assert.deepEqual(declared.map(({ name }) => name).sort(), Object.keys(offered).sort());
});

test("what a class has by its types it has", () => {
  const client = new offered.Client("http://127.0.0.1:9");
  const instances = {
    Client: client,
    Subscription: client.subscribe("DB/*"),
    Room: client.join("chat/lobby"),
    EventStream: new offered.EventStream("/", {}),
    TurnpikeError: new offered.TurnpikeError("code", "message", { status: 400, id: "1", retryAfter: 1 }),
  };
  client.close();
  for (const symbol of declared) {
    const own = checker.getDeclaredTypeOfSymbol(symbol).getProperties().filter(({ declarations }) => declarations[0].getSourceFile() === types);
    const names = own.map(({ name }) => (name.startsWith("__@asyncIterator") ? Symbol.asyncIterator : name));
    assert.ok(names.length > 0, symbol.name);
    for (const name of names) assert.ok(name in instances[symbol.name], `${symbol.name}.${String(name)}`);
  }
});
