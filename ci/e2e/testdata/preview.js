// An application as users run them, on the loopback interface of a container:
// it answers with the path it was asked for, and a WebSocket with what it says
// (small text frames).
const http = require('http'), crypto = require('crypto');
const server = http.createServer((request, response) => response.end('preview ' + request.url + ' ' + JSON.stringify(request.headers)));
server.on('upgrade', (request, socket) => {
  const accept = crypto.createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ' + accept + '\r\n\r\n');
  socket.on('error', () => {});
  socket.on('data', (frame) => {
    if ((frame[0] & 15) === 8) return socket.end();
    const length = frame[1] & 127, mask = frame.subarray(2, 6);
    const text = Buffer.from(frame.subarray(6, 6 + length).map((b, i) => b ^ mask[i & 3]));
    socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
});
server.listen(3000, '127.0.0.1');
