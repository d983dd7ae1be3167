// Prints "ready", then a line for whatever a watcher of the directory tells.
// usage: node watch.cjs KIND DIRECTORY
const [kind, dir] = process.argv.slice(2);
const path = require('node:path');
const say = (...words) => console.log(words.join(' '));
const follow = (watcher) => watcher
  .on('ready', () => say('ready'))
  .on('all', (event, file) => say(event, path.relative(dir, path.resolve(dir, file))));

(async () => {
  switch (kind) {
    case 'chokidar-3': return follow(require('chokidar3').watch(dir, {ignoreInitial: true}));
    case 'chokidar-3-polling': return follow(require('chokidar3').watch(dir, {ignoreInitial: true, usePolling: true}));
    case 'chokidar-5': return follow((await import('chokidar')).watch(dir, {ignoreInitial: true}));
    case 'chokidar-5-polling': return follow((await import('chokidar')).watch(dir, {ignoreInitial: true, usePolling: true}));
    case 'vite': {
      const {createServer} = await import('vite');
      const server = await createServer({root: dir, logLevel: 'silent', optimizeDeps: {noDiscovery: true}, server: {port: 0, host: '127.0.0.1'}});
      follow(server.watcher);
      await server.listen();
      return;
    }
    case 'fs.watch':
      require('node:fs').watch(dir, {recursive: true}, (event, file) => say(event, file));
      return setTimeout(() => say('ready'), 500);
  }
  throw new Error(`unknown watcher ${kind}`);
})();
