// Applications as users run them, each on one address of a container: they answer
// with the path they were asked for, and a WebSocket with what it says (small text
// frames). Where one listens is in a header.
const http = require('http'), crypto = require('crypto');
const upgrade = (request, socket) => {
  const accept = crypto.createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ' + accept + '\r\n\r\n');
  socket.on('error', () => {});
  socket.on('data', (frame) => {
    if ((frame[0] & 15) === 8) return socket.end();
    const length = frame[1] & 127, mask = frame.subarray(2, 6);
    const text = Buffer.from(frame.subarray(6, 6 + length).map((b, i) => b ^ mask[i & 3]));
    socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
};
for (const [port, host] of [[3000, '127.0.0.1'], [3001, '127.0.0.1'], [3002, '::1'], [3003, '0.0.0.0'], [3004, '::']]) {
  http.createServer((request, response) => {
    response.setHeader('X-Listens', host);
    response.end('preview ' + request.url + ' ' + JSON.stringify(request.headers));
  }).on('upgrade', upgrade).listen({ port, host, ipv6Only: host === '::' });
}
