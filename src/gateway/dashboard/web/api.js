// The gateway's public API. The browser adds the cookie of `sign-in`; nothing here ever holds a token.
import { has, loadWords, t } from './words.js';

// A request may wait for the API server; whatever takes longer is not coming.
const LIMIT = 40_000;
// Answers say the time in whole seconds, and a server may keep that line for a second.
const COARSE = 2_000;

// A refusal, or the lack of an answer, in our words. What the API says itself, which may name names, limits and times, is in `said`, unless
// it is among our words already.
export class Refusal extends Error {
  constructor({ code, message, retryable = false, retryAfter, requestId }, status = 0) {
    const [said, words] = [sentence(message), `refusals.${code}`];
    super(has(words) ? t(words, { said, seconds: retryAfter ?? 1 }) : said);
    Object.assign(this, { said: this.message.includes(said) ? '' : said, code, retryable, retryAfter, requestId, status });
  }
}

function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?)]$/.test(first) ? first : `${first}.`;
}

// A refusal as the API gives it. Where our words of it cannot be had, it says the API's.
export async function refusedBy(error, status) {
  await loadWords('refusals').catch(() => {});
  return new Refusal(error, status);
}

// How far the gateway's clock is ahead of this machine's, as far as its answers tell: at least and at most.
let least = -Infinity;
let most = Infinity;
let offset = 0;

export const now = () => Date.now() + offset;

// An answer's time is from between the request and its arrival. However late it arrives, it can only narrow what earlier ones
// told; one that contradicts them means that a clock was set.
export function learnClock(response, askedAt) {
  const said = Date.parse(response.headers.get('date') ?? '');
  if (Number.isNaN(said)) return;
  const bounds = [said - Date.now(), said + COARSE - askedAt];
  [least, most] = [Math.max(least, bounds[0]), Math.min(most, bounds[1])];
  if (least > most) [least, most] = bounds;
  offset = least <= 0 && most >= 0 ? 0 : (least + most) / 2;
}

let whenEnded = () => {};

// Called when the gateway takes the cookie no longer.
export function onEnded(callback) {
  whenEnded = callback;
}

let whenAnother = () => {};

// Called when the gateway takes the cookie for somebody other than the page does.
export function onAnother(callback) {
  whenAnother = callback;
}

let user;

// Whose page it is. What changes something says so: windows share a cookie, and in another one somebody else may have signed
// in since. The gateway then refuses it, rather than do it as them.
export function actFor(name) {
  user = name;
}

// Whether nobody is signed in any more: the gateway says so, or a proxy in front of it, which would rather show a page of its own.
export const isSignedOut = (response) => response.status === 401 || response.type === 'opaqueredirect';

export async function refusal(response) {
  if (response.type === 'opaqueredirect') return new Refusal({ code: 'Unauthorized', message: t('account.endedBefore') }, 401);
  const answer = await response.json().catch(() => undefined);
  if (typeof answer?.error?.message !== 'string') return unreadable(response);
  // That nobody is signed in the page says in other words, and it is the first thing that many see.
  return response.status === 401 ? new Refusal(answer.error, 401) : refusedBy(answer.error, response.status);
}

const unreachable = () => new Refusal({ code: 'Unreachable', message: t('errors.unreachable'), retryable: true });
const unreadable = ({ status }) => new Refusal({ code: 'Unreadable', message: t('errors.unreadable'), retryable: true }, status);

// What a good answer holds. It may break off, and what says 200 may be the page of something in between.
async function dataOf(response) {
  let answer;
  try {
    answer = await response.json();
  } catch (error) {
    throw error instanceof SyntaxError ? unreadable(response) : unreachable();
  }
  if (answer?.data === undefined) throw unreadable(response);
  return answer.data;
}

// One request; the data of its answer. Whatever goes wrong is a Refusal.
export async function call(method, path, body, headers = {}, limit = LIMIT) {
  const of = method !== 'GET' && user && { 'X-Dashboard-User': encodeURIComponent(user) };
  const askedAt = Date.now();
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method,
      // A proxy that signs people in then says 401, and does not begin to sign in at every request.
      headers: { Accept: 'application/json', ...of, ...headers, ...(body !== undefined && { 'Content-Type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      redirect: 'manual',
      signal: AbortSignal.timeout(limit),
    });
  } catch {
    throw unreachable();
  }
  learnClock(response, askedAt);
  if (response.ok) return dataOf(response);
  const refused = await refusal(response);
  if (isSignedOut(response) && path !== 'sign-in') whenEnded();
  if (refused.code === 'AnotherUser') whenAnother();
  throw refused;
}

export const get = (path, limit) => call('GET', path, undefined, {}, limit);
export const post = (path, body, headers) => call('POST', path, body, headers);

// A path or a query, with its values escaped.
export function path(parts, ...values) {
  return parts.reduce((text, part, at) => text + encodeURIComponent(values[at - 1]) + part);
}

// 128 random bits; randomUUID is there over TLS only.
export function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
