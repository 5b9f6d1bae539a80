// A stock Baileys client on a leash: it does what it reads on standard input, one command a line, and says what happens as JSON, one object a
// line, on standard output. For tests against the simulated WhatsApp.
//
//	connect            link (a "qr" comes for every code) or log in
//	pair-code NUMBER   ask for a code for this phone number; a "pairCode" comes
//	disconnect         end the connection and do not come back before "connect"; "away" comes
//	reconnect          a new client over the same keys, as after a restart of the program
//	send NUMBER TEXT   send a message; "sent" comes with the server's confirmation, a "receipt" with each of the other's
//	read               tell everybody who wrote that it was read
//	ask NUMBER         ask for groups, a profile picture and whether the number is on WhatsApp; "asked" comes
//	forget KIND        lose all records of a kind (session, pre-key), as on a damaged disk; "forgotten" comes
//	logout             unlink this device; "loggedOut" comes
//
// The library is as published, and everything it is given is in its public configuration. The certificate chain of the server is no matter of
// configuration: this version calls its check and passes whatever the signatures are (`Curve.verify` ignores what libsignal answers), so the chain
// with the simulation's own root is accepted as it stands. The whatsmeow client beside this one does check it.
//
// 7.0.0-rc14 is the newest version that npm can install from a registry alone: what is called the latest, and every 6.x, takes libsignal from a
// Git repository.
import { Console } from 'node:console'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import makeWASocket, { DisconnectReason, generateMessageIDV2 } from 'baileys'
import pino from 'pino'
import { Memory } from './memory.js'

const [url, debug] = process.argv.slice(2)
if (!url) {
  console.error('usage: main.js URL [debug]')
  process.exit(2)
}

const memory = new Memory()
const sent = new Map()
const unread = []
const kinds = { 3: 'delivered', 4: 'read', 5: 'played' }
let socket
let generation = 0

// libsignal writes whole sessions to the console; standard output is kept for events.
const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
globalThis.console = new Console(debug ? process.stderr : nowhere)
const logger = pino({ level: debug ? 'trace' : 'silent' }, pino.destination(2))
const say = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`)
const jid = number => `${number.replace(/^\+/, '')}@s.whatsapp.net`

function connect() {
  const own = ++generation
  const { auth, keep } = memory.state()
  socket = makeWASocket({ waWebSocketUrl: url, auth, logger, getMessage: async key => sent.get(key.id) })
  socket.ev.on('creds.update', update => {
    keep()
    if (update.accountSyncCounter) say('synced') // it has asked for the account's settings
    if (update.me?.name) say('named', { name: update.me.name })
  })
  socket.ev.on('connection.update', update => {
    if (own === generation) connection(update, auth.creds)
  })
  socket.ev.on('messaging-history.set', () => say('history'))
  socket.ev.on('messages.upsert', ({ messages }) => messages.forEach(message))
  socket.ev.on('messages.update', updates => updates.forEach(receipt))
}

// Comes back after every end but a logout, as the library's documentation has it.
function connection({ connection, lastDisconnect, qr, isNewLogin }, creds) {
  if (qr) say('qr', { code: qr })
  if (isNewLogin) say('paired', { jid: creds.me.id, lid: creds.me.lid })
  if (connection === 'open') say('connected')
  if (connection !== 'close') return
  const code = lastDisconnect?.error?.output?.statusCode
  if (code === DisconnectReason.loggedOut) return say('loggedOut', { code })
  say('disconnected', { code })
  const own = generation
  setTimeout(() => own === generation && connect(), code === DisconnectReason.restartRequired ? 0 : 500)
}

function message({ key, message, pushName, status, messageStubType, messageStubParameters }) {
  // Our own: a receipt that came while the library held its events back is part of what it tells of the message.
  if (key.fromMe) return receipt({ key, update: { status } })
  if (messageStubType) return say('undecryptable', { id: key.id, from: key.remoteJid, why: messageStubParameters })
  if (message?.protocolMessage) return // the phone's own words to its companions
  unread.push(key)
  const text = message?.conversation ?? message?.extendedTextMessage?.text
  say('message', { id: key.id, from: key.remoteJid, text, name: pushName })
}

function receipt({ key, update }) {
  if (kinds[update.status]) say('receipt', { id: key.id, type: kinds[update.status], from: key.remoteJid })
}

const commands = {
  connect,
  async disconnect() {
    generation++ // what this client says of its connection from now on is of no interest
    await socket.end(undefined)
    say('away')
  },
  async reconnect() {
    await commands.disconnect()
    connect()
  },
  async 'pair-code'(number) {
    say('pairCode', { code: await socket.requestPairingCode(number.replace(/^\+/, '')) })
  },
  async send(rest) {
    const [number, ...words] = rest.split(' ')
    const id = generateMessageIDV2(socket.user.id)
    const answer = socket.waitForMessage(id)
    answer.catch(() => {}) // where sending fails first, that is what is told
    const { message } = await socket.sendMessage(jid(number), { text: words.join(' ') }, { messageId: id })
    sent.set(id, message)
    const error = (await answer)?.attrs.error
    if (error) throw new Error(`the server refused the message: ${error}`)
    say('sent', { id })
  },
  async read() {
    await socket.readMessages(unread.splice(0))
  },
  async ask(number) {
    const groups = await socket.groupFetchAllParticipating()
    const [found] = await socket.onWhatsApp(number)
    const picture = await socket.profilePictureUrl(jid(number)).catch(() => undefined)
    const onWhatsApp = found?.exists === true
    say('asked', { groups: Object.keys(groups).length, picture: picture !== undefined, onWhatsApp, jid: found?.jid })
  },
  forget(kind) {
    memory.forget(kind)
    say('forgotten')
  },
  logout: () => socket.logout(),
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...rest] = line.split(' ')
  try {
    if (!Object.hasOwn(commands, command)) throw new Error(`there is no command "${command}"`)
    await commands[command](rest.join(' '))
  } catch (error) {
    say('failed', { command, error: String(error?.message ?? error) })
  }
}
process.exit(0)
