// Two processes: an API, which PM2 starts anew when its files change, and a
// client's server. Each listens on one of the VM's loopback addresses only.
module.exports = {
  apps: [
    { name: 'api', cwd: __dirname, script: 'api/main.ts', watch: ['api'], watch_delay: 50, kill_timeout: 1000, env: { API_PORT: '3900' } },
    { name: 'client', cwd: __dirname, script: 'client/serve.mjs', env: { CLIENT_PORT: '3901', API_PORT: '3900' } },
  ],
};
