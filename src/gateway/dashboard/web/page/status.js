// Where an instance stands, as a light with words, and a sentence on what to do.
import { html } from '../html.js';
import { has, moment, t } from '../words.js';

const LIGHT = {
  Connected: 'good',
  Pending: 'busy',
  AwaitingPairing: 'busy',
  Connecting: 'busy',
  Reconnecting: 'busy',
  AwaitingPasskey: 'warn',
  PairingExpired: 'off',
  Disconnected: 'off',
  Terminating: 'off',
  Unlinked: 'off',
  LoggedOut: 'bad',
  Restricted: 'warn',
  Rejected: 'bad',
  BridgeUnavailable: 'bad',
};

// Whether its device is linked by a code to type, not by one to scan.
export const isTyped = (session) => session?.pairing_method === 'Code';

// A word about a session, of a group; scanning and typing have words of their own where they differ.
export function wording(group, word, session) {
  const typed = `${group}Typed.${word}`;
  return isTyped(session) && has(typed) ? t(typed) : t(`${group}.${word}`);
}

// A phase of a later release is shown by its own name.
export const light = (session) => LIGHT[session.phase] ?? 'off';
export const phase = (session) => (has(`phase.${session.phase}`) ? wording('phase', session.phase, session) : session.phase);

export const Status = ({ session }) => html`
  <span class="status ${light(session)}"><span class="light" aria-hidden="true"></span>${phase(session)}</span>`;

// What holds it back and what helps; nothing when all is well.
export function advice(session) {
  const { reason, restricted_until: until } = session;
  const message = session.message ?? '';
  if (!reason) return '';
  if (reason === 'Stopped' && !session.phone_number) return t('reason.StoppedUnlinked');
  // What the API says beyond what this reason always means.
  const more = message.split(/(?<=\.) /).slice(1).join(' ');
  const text = has(`reason.${reason}`) ? t(`reason.${reason}`, { message, more }).trim() : message;
  return until ? t('reason.until', { text, time: moment(until) }) : text;
}

// The number of the linked account; empty before there is one.
export const phone = (session) => session.phone_number ?? '';
