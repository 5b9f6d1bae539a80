// Follows the gateway's events. Read by fetch and not by EventSource, which hides the lines that say "still here", the
// status of a refusal, and goes on after a refusal from the beginning only.
import { isSignedOut, learnClock, refusal } from './api.js';

// The gateway says something at least every 15 s; a connection that is quieter is dead.
const QUIET = 40_000;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 5_000;

// Tells of events until stopped: tell.live(), tell.lost(at), tell.begin(), tell.event(kind, data), tell.ended(),
// tell.refused(refusal); tell.renewed() says whether a token that has ended may have a successor. After begin() everything is told again, up to the event `ready`.
export function follow(query, tell) {
  let stopped = false;
  let lastId = '';
  let pause = 0;
  let heard = Date.now();
  let current = new AbortController();
  let wake = () => {};

  const retry = () => wake();
  const cut = () => current.abort();
  addEventListener('online', retry);
  addEventListener('offline', cut);

  // What one connection tells; true when nothing more is to be tried.
  async function connection() {
    current = new AbortController();
    const headers = { Accept: 'text/event-stream, application/json', ...(lastId && { 'Last-Event-ID': lastId }) };
    const askedAt = Date.now();
    const response = await fetch(`/api/v1/events${query}`, { headers, signal: current.signal, cache: 'no-store', redirect: 'manual' });
    if (isSignedOut(response)) return tell.ended() ?? true;
    if (!response.ok) {
      const refused = await refusal(response);
      if (refused.retryable) throw refused;
      return tell.refused(refused) ?? true;
    }
    learnClock(response, askedAt);
    if (!lastId) tell.begin();
    tell.live();
    pause = 0;
    return read(response.body.pipeThrough(new TextDecoderStream()).getReader());
  }

  async function read(reader) {
    let text = '';
    const watch = setInterval(() => Date.now() - heard > QUIET && current.abort(), 5_000);
    try {
      for (;;) {
        heard = Date.now();
        const { done, value } = await reader.read();
        if (done) return false;
        const blocks = (text + value).split('\n\n');
        text = blocks.pop();
        for (const block of blocks) if (event(block)) return true;
      }
    } finally {
      clearInterval(watch);
    }
  }

  function event(block) {
    let kind = 'message';
    let data = '';
    for (const line of block.split('\n')) {
      const at = line.indexOf(':');
      const value = line.slice(at + 1).trimStart();
      if (line.startsWith('id:')) lastId = value;
      else if (line.startsWith('event:')) kind = value;
      else if (line.startsWith('data:')) data += value;
    }
    if (!data) return false;
    const told = JSON.parse(data);
    // A proxy that signs people in may have another token by now; the next connection tells.
    if (kind === 'end' && told.reason === 'TokenExpired') return !tell.renewed() && (tell.ended() ?? true);
    // What was missed of messages only is asked for again; sessions go on.
    if (kind === 'reset' && told.reason !== 'MessagesMissed') tell.begin();
    tell.event(kind, told);
    return false;
  }

  async function run() {
    while (!stopped) {
      try {
        if (await connection()) return;
      } catch {
        // Said below, whatever it was.
      }
      if (stopped) return;
      tell.lost(new Date(heard));
      pause = Math.min(Math.max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE);
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, pause * (0.75 + Math.random() / 2));
      });
    }
  }

  run();
  return () => {
    stopped = true;
    removeEventListener('online', retry);
    removeEventListener('offline', cut);
    current.abort();
    wake();
  };
}
