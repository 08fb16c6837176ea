// Plays scenes in headless Chromium. Stdin: {browser, profile, certificate, scenes: [{page, url, protocols, steps}]}.
// `page` is what the browser shows meanwhile: its origin is the WebSocket's. Stdout: a list of reports.
const { spawn } = require('child_process');
const { X509Certificate, createHash } = require('crypto');
const fs = require('fs');

const { browser, profile, certificate, scenes } = JSON.parse(fs.readFileSync(0));
const key = new X509Certificate(fs.readFileSync(certificate)).publicKey.export({ type: 'spki', format: 'der' });
const flags = [
  '--headless', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--remote-debugging-pipe',
  `--user-data-dir=${profile}`,
  `--ignore-certificate-errors-spki-list=${createHash('sha256').update(key).digest('base64')}`,
  // Chromium's sandbox does not work for root.
  ...(process.getuid() === 0 ? ['--no-sandbox'] : []),
];
const chromium = spawn(browser, [...flags, 'about:blank'], {
  stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
});
let stderr = '';
chromium.stderr.on('data', (data) => (stderr += data));
chromium.on('error', (error) => fail(error.message));
chromium.on('exit', (code, signal) => done || fail(`${browser} ended with ${code ?? signal}:\n${stderr}`));
let done = false;

function fail(why) {
  console.error(why);
  process.exit(1);
}

// The DevTools protocol: JSON on two pipes, each message ended by a zero byte.
const [, , , input, output] = chromium.stdio;
const answers = new Map();
let events = [];
let received = Buffer.alloc(0);
output.on('data', (data) => {
  received = Buffer.concat([received, data]);
  for (let end; (end = received.indexOf(0)) >= 0; received = received.subarray(end + 1)) {
    const message = JSON.parse(received.subarray(0, end));
    if (message.id) answers.get(message.id)(message);
    events = events.filter((wants) => !wants(message));
  }
});

function call(method, params, sessionId) {
  const id = answers.size + 1;
  const answer = new Promise((resolve) => answers.set(id, resolve));
  input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  return answer.then(({ error, result }) => (error ? fail(`${method}: ${error.message}`) : result));
}

function event(method, sessionId) {
  return new Promise((resolve) => {
    events.push((message) => {
      const wanted = message.method === method && message.sessionId === sessionId;
      if (wanted) resolve(message.params);
      return wanted;
    });
  });
}

const script = fs.readFileSync(`${__dirname}/scenario.js`, 'utf8');

async function scene({ page, url, protocols, steps }) {
  const { targetId } = await call('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
  await call('Page.enable', {}, sessionId);
  const loaded = event('Page.loadEventFired', sessionId);
  const { errorText } = await call('Page.navigate', { url: page }, sessionId);
  if (errorText) fail(`${page}: ${errorText}`);
  await loaded;
  const [where, what] = [JSON.stringify([url, protocols ?? []]), JSON.stringify(steps)];
  const expression = `${script};play(() => new WebSocket(...${where}), ${what})`;
  const { result, exceptionDetails } = await call(
    'Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true }, sessionId);
  if (exceptionDetails) fail(JSON.stringify(exceptionDetails));
  return result.value;
}

(async () => {
  const reports = [];
  for (const each of scenes) reports.push(await scene(each));
  done = true;
  console.log(JSON.stringify(reports));
  await call('Browser.close');
})();
