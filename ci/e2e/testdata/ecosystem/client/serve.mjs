import http from 'node:http';

// Serves a page, and what the API answers below /api.
http
  .createServer((request, response) => {
    if (!request.url.startsWith('/api')) {
      response.end('<title>client</title>');
      return;
    }
    http
      .get({ host: '127.0.0.1', port: process.env.API_PORT, path: request.url }, (answer) => answer.pipe(response))
      .on('error', (fault) => {
        response.statusCode = 502;
        response.end(String(fault));
      });
  })
  .listen(Number(process.env.CLIENT_PORT), '::1', () => console.log('client listens'));
