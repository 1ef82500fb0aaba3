// How Node runs while app.py synthesizes: V8's settings, by --require. Not the constructs, which any app may use as it is.
//
// The CDK's own look at the templates is WebAssembly, whose memory grows by hundreds of small steps. Before V8 counts that
// in the limit of the whole heap, every step begins a garbage collection: most of the second that loading the rules takes.
// And each function that is called often is compiled again, optimized, for which Node waits when it is to end.
"use strict";

const major = Number(process.versions.node.split(".")[0]);
const flags = [
  "--no-wasm-tier-up",
  "--no-wasm-dynamic-tiering",
  major === 24 ? "--external-memory-accounted-in-global-limit" : "--no-concurrent-marking",
];
for (const flag of flags) require("node:v8").setFlagsFromString(flag);
