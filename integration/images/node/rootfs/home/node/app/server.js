const http = require('http');
const os = require('os');
const fs = require('fs');
const { Worker, isMainThread, parentPort } = require('worker_threads');
const { execFile } = require('child_process');

if (!isMainThread) {
  parentPort.postMessage([1, 2, 3].map((n) => n + 1).reduce((a, b) => Math.max(a, b)));
} else {
  os.userInfo();
  fs.writeFileSync(fs.mkdtempSync(os.tmpdir() + '/node-') + '/state', 'x');
  const server = http.createServer((request, response) => {
    execFile('/bin/echo', ['served by node'], (error, text) => {
      const worker = new Worker(__filename);
      worker.once('message', (n) => response.end(error ? String(error) : text.trim() + ' ' + n + '\n'));
    });
  });
  process.on('SIGTERM', () => server.close(() => process.exit(0)));
  server.listen(3000, () => console.log('listening'));
}
