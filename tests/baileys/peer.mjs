// The real Baileys as a process: a backend on a session directory, or another user's linked device.
//   node peer.mjs BAILEYS_ROOT SESSION_DIR PROXY ROOT_KEY_HEX
// It is controlled by lines of JSON, and ends with stdin or SIGTERM.
//
// It reads {"to", "text"} or {"to", "content", "quoted"}: Baileys' content, in which a file is base64, and a message that
// is edited, deleted, reacted to or quoted is named by its id.
// It writes {"event": "qr" | "open" | "message" | "reaction" | "edit" | "revoke" | "sent" | "failed" | "closed", ...}.
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'
import { get } from 'node:https'
import { pathToFileURL } from 'node:url'
import { Readable } from 'node:stream'

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

// Baileys downloads with fetch, which has no agent.
globalThis.fetch = (url, { headers } = {}) =>
  new Promise((resolve, reject) => {
    const plain = Object.fromEntries(new Headers(headers).entries())
    get(url, { agent, headers: plain }, answer =>
      resolve(new Response(Readable.toWeb(answer), { status: answer.statusCode }))).on('error', reject)
  })

// libsignal writes to the console, which has only events here.
console.log = console.info = console.warn = (...words) => console.error(...words)

const silent = { level: 'silent', child: () => silent }
for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal']) silent[level] = () => {}

const messages = new Map() // by id
let socket

async function connect() {
  const { state, saveCreds } = await baileys.useMultiFileAuthState(directory)
  socket = baileys.makeWASocket({
    auth: state, agent, fetchAgent: agent, logger: silent,
    getMessage: async ({ id }) => messages.get(id)?.message
  })
  socket.ev.on('creds.update', saveCreds)
  socket.ev.on('connection.update', ({ connection, qr, lastDisconnect }) => {
    if (qr) report({ event: 'qr', code: qr })
    if (connection === 'open') report({ event: 'open', me: state.creds.me.id })
    if (connection !== 'close') return
    const code = lastDisconnect?.error?.output?.statusCode
    if (code === baileys.DisconnectReason.restartRequired) connect()
    else report({ event: 'closed', code })
  })
  socket.ev.on('messages.upsert', async ({ messages: found }) => {
    for (const message of found) await received(message)
  })
  socket.ev.on('messages.reaction', found => {
    for (const { key, reaction } of found) {
      report({ event: 'reaction', id: key.id, text: reaction.text, author: reaction.key.participant })
    }
  })
  socket.ev.on('messages.update', found => {
    for (const { key, update } of found) {
      const edited = update.message?.editedMessage?.message
      if (edited) report({ event: 'edit', id: key.id, text: textOf(edited) })
      else if (update.message === null) report({ event: 'revoke', id: key.id })
    }
  })
}

const textOf = message => message.conversation || message.extendedTextMessage?.text || message.imageMessage?.caption

async function received(whole) {
  const { key, message } = whole
  const kind = message && baileys.getContentType(message)
  if (!kind || ['reactionMessage', 'protocolMessage', 'senderKeyDistributionMessage'].includes(kind)) return
  messages.set(key.id, whole)
  const content = message[kind]
  const context = content?.contextInfo
  const file = kind === 'imageMessage' && (await baileys.downloadMediaMessage(whole, 'buffer', {}))
  report({
    event: 'message', id: key.id, chat: key.remoteJid, author: key.participant, from_me: key.fromMe, kind,
    text: textOf(message) ?? '',
    quoted: context?.stanzaId ?? undefined, quoted_author: context?.participant ?? undefined,
    mentions: context?.mentionedJid?.length ? context.mentionedJid : undefined,
    poll: content?.options && { name: content.name, options: content.options.map(one => one.optionName) },
    sha256: file ? createHash('sha256').update(file).digest('hex') : undefined
  })
}

// A message by its id, as Baileys wants it.
function known(id) {
  if (!messages.has(id)) throw new Error(`there was no message ${id}`)
  return messages.get(id)
}

function contentOf({ image, edit, react, delete: gone, ...content }) {
  if (image) content.image = Buffer.from(image, 'base64')
  if (edit) content.edit = known(edit).key
  if (gone) content.delete = known(gone).key
  if (react) content.react = { text: react.text, key: known(react.id).key }
  return content
}

async function send({ to, text, content = { text }, quoted }) {
  const sent = await socket.sendMessage(to, contentOf(content), quoted && { quoted: known(quoted) })
  messages.set(sent.key.id, sent)
  report({ event: 'sent', id: sent.key.id })
}

// Writes to the directory are completed, as in a backend that is stopped gracefully.
async function end() {
  await socket.end(undefined)
  setTimeout(() => process.exit(0), 300)
}

process.once('SIGTERM', end)
await connect()
for await (const line of createInterface({ input: process.stdin })) {
  await send(JSON.parse(line)).catch(error => report({ event: 'failed', error: String(error?.stack ?? error) }))
}
await end()
