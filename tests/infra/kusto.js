// Parses Kusto queries with Microsoft's own language service, against the columns of the tables that they read.
// Standard input: {"tables": {name: "column:type, …"}, "queries": {name: text}}. Standard output: {name: [what is wrong]}.

const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

// The language service is written for browsers: its files expect to be scripts of one page, not modules.
const folder = path.dirname(require.resolve("@kusto/language-service-next/package.json"));
globalThis.window = globalThis;
for (const file of ["bridge.min.js", "Kusto.Language.Bridge.min.js"]) {
  vm.runInThisContext(fs.readFileSync(path.join(folder, file), "utf8"), { filename: file });
}

const { GlobalState, KustoCode, Symbols } = globalThis.Kusto.Language;
const { tables, queries } = JSON.parse(fs.readFileSync(0, "utf8"));
const symbols = Object.entries(tables).map(([name, columns]) =>
  Symbols.TableSymbol.From(`(${columns})`).WithName(name),
);
const database = new Symbols.DatabaseSymbol.$ctor1("logs", symbols);
const workspace = GlobalState.Default.WithDatabase(database);

const found = {};
for (const [name, text] of Object.entries(queries)) {
  const diagnostics = KustoCode.ParseAndAnalyze(text, workspace).GetDiagnostics();
  found[name] = Array.from({ length: diagnostics.Count }, (_, index) => diagnostics.getItem(index).Message);
}
process.stdout.write(JSON.stringify(found));
