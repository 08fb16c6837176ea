// Plays scenes with `ws`. Stdin: {ca, scenes: [{url, options, protocols, steps}]}, where `options` are those of `ws`.
// Stdout: a list of reports; one of a connection that did not come about has `failed`.
const fs = require('fs');
const { WebSocket } = require('ws');
const { play } = require('./scenario.js');

async function scene({ url, options, protocols, steps }, ca) {
  let [extensions, failed] = [''];
  const report = await play(() => {
    const socket = new WebSocket(url, protocols, { ca, maxPayload: 32 << 20, ...options });
    socket.on('upgrade', ({ headers }) => (extensions = headers['sec-websocket-extensions'] ?? ''));
    socket.on('error', (error) => (failed = error.message));
    return socket;
  }, steps);
  // `ws` itself tells the extension's name only.
  if (report.opened) report.opened.extensions = extensions;
  return { ...report, failed };
}

(async () => {
  const { ca, scenes } = JSON.parse(fs.readFileSync(0));
  const reports = [];
  for (const each of scenes) reports.push(await scene(each, ca && fs.readFileSync(ca)));
  console.log(JSON.stringify(reports));
})();
