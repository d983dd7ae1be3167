module.exports = { apps: [{ name: 'client', cwd: __dirname, script: 'client/serve.mjs' }, { name: 'missing', script: 'nowhere/missing.mjs' }] };
