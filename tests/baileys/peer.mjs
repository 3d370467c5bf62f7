// A small Node backend: the real Baileys on a session directory, controlled by lines of JSON.
//   node peer.mjs BAILEYS_ROOT SESSION_DIR PROXY ROOT_KEY_HEX
// It writes {"event": "qr" | "open" | "message" | "sent" | "closed", ...}; it reads {"to", "text"}, and ends with stdin
// or SIGTERM.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const [root, directory, proxy, rootKey] = process.argv.slice(2)
const require = createRequire(`${root}/package.json`)
const load = name => import(pathToFileURL(require.resolve(name)))
const report = event => process.stdout.write(`${JSON.stringify(event)}\n`)

// Debian 12 has Node 18, where this is not global yet; Baileys asks for 20.
globalThis.crypto ??= (await import('node:crypto')).webcrypto
const baileys = await load('@whiskeysockets/baileys')
const { HttpsProxyAgent } = await load('https-proxy-agent')
baileys.WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(rootKey, 'hex')
const agent = new HttpsProxyAgent(proxy)

// libsignal writes to the console, which has only events here.
console.log = console.info = console.warn = (...words) => console.error(...words)

const silent = { level: 'silent', child: () => silent }
for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal']) silent[level] = () => {}

let socket

async function connect() {
  const { state, saveCreds } = await baileys.useMultiFileAuthState(directory)
  socket = baileys.makeWASocket({ auth: state, agent, fetchAgent: agent, logger: silent })
  socket.ev.on('creds.update', saveCreds)
  socket.ev.on('connection.update', ({ connection, qr, lastDisconnect }) => {
    if (qr) report({ event: 'qr', code: qr })
    if (connection === 'open') report({ event: 'open', me: state.creds.me.id })
    if (connection !== 'close') return
    const code = lastDisconnect?.error?.output?.statusCode
    if (code === baileys.DisconnectReason.restartRequired) connect()
    else report({ event: 'closed', code })
  })
  socket.ev.on('messages.upsert', ({ messages }) => {
    for (const { key, message } of messages) {
      const text = message?.conversation || message?.extendedTextMessage?.text
      if (text) report({ event: 'message', id: key.id, text })
    }
  })
}

// Writes to the directory are completed, as in a backend that is stopped gracefully.
async function end() {
  await socket.end(undefined)
  setTimeout(() => process.exit(0), 300)
}

process.once('SIGTERM', end)
await connect()
for await (const line of createInterface({ input: process.stdin })) {
  const { to, text } = JSON.parse(line)
  const sent = await socket.sendMessage(to, { text })
  report({ event: 'sent', id: sent.key.id })
}
await end()
