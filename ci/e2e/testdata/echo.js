// Answers everything on port 7777, TCP and UDP, in both families. UDP has a
// socket for each address, so that an answer comes from where the question went.
const dgram = require('node:dgram');
const net = require('node:net');
const os = require('node:os');

net.createServer((c) => c.on('error', () => {}).end('hello\n')).listen(7777, '::');
for (const { address, family } of Object.values(os.networkInterfaces()).flat()) {
  if (address.startsWith('fe80:')) continue;
  const s = dgram.createSocket(family === 'IPv6' ? 'udp6' : 'udp4');
  s.on('error', (err) => console.error(address, err.message));
  s.on('message', (m, from) => s.send('hello\n', from.port, from.address));
  s.bind(7777, address);
}
