import http from 'node:http';
import { version } from './answer.ts';

const server = http.createServer((request, response) => {
  console.log('asked for', request.url);
  response.end(JSON.stringify({ greeting: process.env.GREETING, version, pid: process.pid }));
});
server.listen(Number(process.env.API_PORT), '127.0.0.1', () => console.log('version', version, 'listens'));
