// Servers made of `ws`. Stdin: first a line {servers: [options of permessage-deflate, or false], tls: {cert, key} or null}.
// Stdout: a line with the list of their ports. Each further line on stdin is answered with a line of what all of them
// counted; they end when stdin does.
//
// What a server does with a message, the path says:
//   /echo  /sink  /fragments     sends it back; counts it; sends it back in three fragments
//   /close/CODE/REASON           closes
//   /ping                        pings as a connection opens, and tells of the pong
//   /lose/N  /corrupt/N  /swap/N an echo which is wrong with each N-th message
// To plain HTTP it tells its counts as Prometheus reads them.
const fs = require('fs');
const readline = require('readline');
const { WebSocketServer } = require('ws');

const counts = { opened: 0, messages: 0, extended: 0, closes: [] };

function serve(socket, [name, ...rest]) {
  const send = (data, binary) => socket.send(data, { binary });
  const behaviours = {
    echo: () => send,
    sink: () => () => {},
    fragments: () => (data, binary) => {
      const third = Math.ceil(data.length / 3);
      for (const i of [0, 1, 2]) {
        socket.send(data.subarray(i * third, (i + 1) * third), { binary, fin: i === 2 });
      }
    },
    close: ([code, reason]) => () => socket.close(Number(code), decodeURIComponent(reason ?? '')),
    ping: () => {
      socket.on('pong', (data) => socket.send(`pong ${data}`));
      socket.ping('are you there');
      return send;
    },
    lose: ([n]) => each(n, () => {}, send),
    corrupt: ([n]) => each(n, (data, binary) => {
      data[data.length - 1] ^= 1;
      send(data, binary);
    }, send),
    swap: ([n]) => {
      let kept;
      return each(n, (...message) => (kept = message), (...message) => {
        send(...message);
        if (kept) send(...kept);
        kept = undefined;
      });
    },
  };
  return behaviours[name](rest);
}

// Every n-th message is for `special`.
function each(n, special, other) {
  let count = 0;
  return (...message) => {
    count += 1;
    (count % n === 0 ? special : other)(...message);
  };
}

function connected(socket, request) {
  const behave = serve(socket, request.url.slice(1).split('/'));
  counts.opened += 1;
  if (socket.extensions) counts.extended += 1;
  socket.on('message', (data, binary) => {
    counts.messages += 1;
    behave(data, binary);
  });
  socket.on('close', (code, reason) => counts.closes.push([code, reason.toString()]));
  // The close that follows is what counts.
  socket.on('error', () => {});
}

function tell(_, response) {
  const { opened, messages, closes } = counts;
  response.write('# TYPE ws_opened_total counter\n');
  response.write(`ws_opened_total{by="ws"} ${opened}\nws_open ${opened - closes.length}\n`);
  response.end(`ws_messages_total{kind="data"} ${messages}\nws_messages_total{kind="other"} 7\n`);
}

function listen(perMessageDeflate, tls) {
  const http = tls
    ? require('https').createServer({ cert: fs.readFileSync(tls.cert), key: fs.readFileSync(tls.key) })
    : require('http').createServer(tell);
  const server = new WebSocketServer({ server: http, perMessageDeflate, maxPayload: 32 << 20 });
  server.on('connection', connected);
  return new Promise((resolve) => http.listen(0, '127.0.0.1', () => resolve(http.address().port)));
}

const lines = readline.createInterface({ input: process.stdin });
lines.once('line', async (line) => {
  const { servers, tls } = JSON.parse(line);
  const ports = await Promise.all(servers.map((deflate) => listen(deflate, tls)));
  lines.on('line', () => console.log(JSON.stringify(counts)));
  console.log(JSON.stringify(ports));
});
lines.on('close', () => process.exit());
