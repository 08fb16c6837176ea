// Plays a scenario on a WebSocket, be it a browser's or that of Node's `ws`: the same script for both.
//
// `connect` makes the WebSocket. A scenario is a list of steps; its report says what came of each, and how the connection
// ended as `onclose` has it. Steps:
//   {echo: {kind, size}}             sends a message; true if the next one equals it
//   {fragments: {kind, sizes}}       the same in fragments (`ws` only)
//   {many: {count, size}}            the same with many at once
//   {say: text}, {hear: true}        sends; gives the next message, which is text
//   {ping: text}                     true when the pong came that belongs to it (`ws` only)
//   {flood: {size}}                  sends without waiting for anything
//   {close: [code, reason]}          begins the closing handshake
async function play(connect, steps) {
  const socket = connect();
  socket.binaryType = 'arraybuffer';
  const inbox = queue();
  const closed = new Promise((resolve) => {
    socket.onclose = ({ code, reason, wasClean }) => {
      inbox.end();
      resolve({ code, reason, clean: wasClean });
    };
  });
  socket.onmessage = ({ data }) => inbox.push(data);
  const opened = await new Promise((resolve) => {
    socket.onopen = () => resolve(true);
    socket.onerror = () => resolve(false);
  });
  if (!opened) return { opened: null, steps: [], close: await closed };
  const report = { opened: { protocol: socket.protocol, extensions: socket.extensions }, steps: [] };
  for (const step of steps) report.steps.push(await take(step, socket, inbox));
  report.close = await closed;
  return report;
}

async function take(step, socket, inbox) {
  const [[name, value]] = Object.entries(step);
  switch (name) {
    case 'echo': {
      const message = make(value.kind, value.size);
      socket.send(message);
      return equal(await inbox.next(), message);
    }
    case 'fragments': {
      const message = make(value.kind, value.sizes.reduce((sum, size) => sum + size, 0));
      let at = 0;
      value.sizes.forEach((size, i) => {
        socket.send(message.slice(at, at + size), { fin: i + 1 === value.sizes.length });
        at += size;
      });
      return equal(await inbox.next(), message);
    }
    case 'many': {
      const messages = Array.from({ length: value.count }, (_, i) => `${i}`.padEnd(value.size, '.'));
      for (const message of messages) socket.send(message);
      for (const message of messages) {
        if (!equal(await inbox.next(), message)) return false;
      }
      return true;
    }
    case 'say':
      return socket.send(value) ?? true;
    case 'hear':
      return inbox.next();
    case 'ping': {
      const pong = new Promise((resolve) => socket.once('pong', resolve));
      socket.ping(value);
      return (await pong).toString() === value;
    }
    case 'flood':
      return socket.send(make('binary', value.size)) ?? true;
    case 'close':
      return socket.close(...value) ?? true;
    default:
      throw new Error(`no such step: ${name}`);
  }
}

// Messages that arrived and were not asked for yet. Those of a connection that ended are null.
function queue() {
  const [messages, waiting] = [[], []];
  let ended = false;
  return {
    push: (message) => (waiting.length ? waiting.shift()(message) : messages.push(message)),
    next: () => {
      if (messages.length) return Promise.resolve(messages.shift());
      return ended ? Promise.resolve(null) : new Promise((resolve) => waiting.push(resolve));
    },
    end: () => {
      ended = true;
      for (const resolve of waiting) resolve(null);
    },
  };
}

// Text compresses well, binary not at all.
function make(kind, size) {
  if (kind === 'text') {
    return Array.from({ length: Math.ceil(size / 16) }, (_, i) => `${i} `.padStart(16, 'message ')).join('').slice(0, size);
  }
  const bytes = new Uint8Array(size);
  let state = 0x9e3779b9;
  for (let i = 0; i < size; i += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes;
}

function equal(received, sent) {
  if (typeof sent === 'string') return received === sent;
  if (!(received instanceof ArrayBuffer)) return false;
  const bytes = new Uint8Array(received);
  return bytes.length === sent.length && bytes.every((byte, i) => byte === sent[i]);
}

if (typeof module !== 'undefined') module.exports = { play };
