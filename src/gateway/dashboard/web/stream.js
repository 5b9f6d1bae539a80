// Follows the gateway's events. Read by fetch and not by EventSource, which hides the lines that say "still here", the
// status of a refusal, and goes on after a refusal from the beginning only.
import { isSignedOut, learnClock, refusal } from './api.js';

// The gateway says something at least every 15 s; a connection that is quieter is dead.
const QUIET = 40_000;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 5_000;
// A window that nobody has seen for so long gives its connection back. Over HTTP/1.1 a browser has six to a host, for all of its
// windows together, and each stream takes one. More than five windows that are seen at once still wait for one another.
const UNSEEN = 30_000;

// Tells of events until stopped: tell.connecting(), tell.live(), tell.lost(at), tell.begin(), tell.event(kind, data), tell.ended(),
// tell.refused(refusal); tell.renewed() says whether a token that has ended may have a successor, and tell.isStillOurs() whether the
// next connection is of the same person as the one before. After begin() everything is told again, up to the event `ready`.
export function follow(query, tell) {
  let stopped = false;
  let lastId = '';
  let pause = 0;
  let first = true;
  let heard = Date.now();
  // Since when nothing has come, of this connection or of the wish for it.
  let quiet = heard;
  // Not seen for long, and not connected.
  let resting = false;
  let unseen;
  let current = new AbortController();
  let wake = () => {};

  const retry = () => wake();
  const cut = () => current.abort();
  const rest = () => {
    resting = true;
    cut();
  };
  const looked = () => {
    clearTimeout(unseen);
    if (document.visibilityState === 'hidden') {
      unseen = setTimeout(rest, UNSEEN);
    } else {
      resting = false;
      wake();
    }
  };
  addEventListener('online', retry);
  addEventListener('offline', cut);
  document.addEventListener('visibilitychange', looked);

  // What one connection tells; true when nothing more is to be tried.
  async function connection() {
    // The cookie may be somebody else's by now.
    if (!first && !(await tell.isStillOurs())) return true;
    if (stopped) return true;
    first = false;
    quiet = Date.now();
    const headers = { Accept: 'text/event-stream, application/json', ...(lastId && { 'Last-Event-ID': lastId }) };
    const askedAt = Date.now();
    const response = await fetch(`/api/v1/events${query}`, { headers, signal: current.signal, cache: 'no-store', redirect: 'manual' });
    if (stopped) return true;
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
    for (;;) {
      heard = quiet = Date.now();
      const { done, value } = await reader.read();
      if (done || stopped) return stopped;
      const blocks = (text + value).split('\n\n');
      text = blocks.pop();
      for (const block of blocks) if (event(block)) return true;
    }
  }

  // The same, cut when nothing comes for too long, from before it is asked for to its end.
  async function watched() {
    current = new AbortController();
    quiet = Date.now();
    const watch = setInterval(() => Date.now() - quiet > QUIET && cut(), 5_000);
    try {
      return await connection();
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

  const woken = (limit) => new Promise((resolve) => {
    wake = resolve;
    if (limit) setTimeout(resolve, limit);
  });

  async function run() {
    while (!stopped) {
      try {
        if (await watched()) return;
      } catch {
        // Said below, whatever it was.
      }
      if (stopped) return;
      if (!resting) {
        tell.lost(new Date(heard));
        pause = Math.min(Math.max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE);
        await woken(pause * (0.75 + Math.random() / 2));
      }
      if (resting && !stopped) tell.connecting();
      while (resting && !stopped) await woken();
    }
  }

  looked();
  run();
  return () => {
    stopped = true;
    clearTimeout(unseen);
    removeEventListener('online', retry);
    removeEventListener('offline', cut);
    document.removeEventListener('visibilitychange', looked);
    cut();
    wake();
  };
}
