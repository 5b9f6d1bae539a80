// Keys and credentials that live as long as the program: what Baileys calls an authentication state. Records are kept as the text that a file
// would hold, so that a new client over them gets what it would get after a restart of the program, and no object of the client before it.
import { BufferJSON, initAuthCreds, proto } from 'baileys'

const write = value => JSON.stringify(value, BufferJSON.replacer)
const read = text => JSON.parse(text, BufferJSON.reviver)
// What Baileys stores as an object of the protocol, whose text form is not the one of `write`; its own stores on disk do the same.
const revive = (kind, value) => (kind === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value)

export class Memory {
  #credentials = write(initAuthCreds())
  #records = new Map()

  // The state for one client. Its `keep` is to be called whenever the client changed the credentials.
  state() {
    const creds = read(this.#credentials)
    const keep = () => (this.#credentials = write(creds))
    return { auth: { creds, keys: { get: this.#get, set: this.#set } }, keep }
  }

  // All records of a kind are lost, as on a damaged disk. A client that runs already may have some of them in its own memory.
  forget(kind) {
    for (const name of this.#records.keys()) if (name.startsWith(`${kind}/`)) this.#records.delete(name)
  }

  #get = async (kind, ids) => {
    const found = ids.map(id => [id, this.#records.get(`${kind}/${id}`)]).filter(([, text]) => text !== undefined)
    return Object.fromEntries(found.map(([id, text]) => [id, revive(kind, read(text))]))
  }

  #set = async changes => {
    for (const [kind, records] of Object.entries(changes)) {
      for (const [id, value] of Object.entries(records)) {
        if (value === null || value === undefined) this.#records.delete(`${kind}/${id}`)
        else this.#records.set(`${kind}/${id}`, write(value))
      }
    }
  }
}
