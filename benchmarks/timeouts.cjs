// For Azurite in benchmarks: a request may wait. Azurite drops a connection that has been idle for five seconds, and
// takes one for idle whose request it has not come to; its own option for that time is not read.
const http = require("node:http");

const { createServer } = http;
http.createServer = (...given) =>
  Object.defineProperty(createServer(...given), "keepAliveTimeout", { get: () => 600_000, set: () => {} });
