// What the page says, in the language of whoever reads it. A language is three files in words/, in each language with the same keys.
import { setting } from './settings.js';

// What is said at first; of instances and in windows; and when the gateway refuses something.
const FILES = {
  en: { first: () => import('./words/en.js'), more: () => import('./words/en_more.js'), refusals: () => import('./words/en_refusals.js') },
  de: { first: () => import('./words/de.js'), more: () => import('./words/de_more.js'), refusals: () => import('./words/de_refusals.js') },
};

export const LANGUAGES = [{ code: 'en', name: 'English' }, { code: 'de', name: 'Deutsch' }];

const wanted = new Set(['first']);
let spoken = 'en';
let words = {};

function chosen() {
  const languages = [setting('language'), ...navigator.languages.map((tag) => tag.slice(0, 2))];
  return languages.find((one) => one in FILES) ?? 'en';
}

// Loads the language that was chosen, or that the browser asks for; to be awaited before anything is said. With `more`, that as well, from
// now on.
export async function loadWords(more = 'first') {
  const code = chosen();
  const files = await Promise.all([...new Set([...wanted, more])].map((one) => FILES[code][one]()));
  // Another one was chosen meanwhile.
  if (code !== chosen()) return loadWords(more);
  wanted.add(more);
  words = Object.assign(code === spoken ? words : {}, ...files.map((file) => file.default));
  spoken = code;
  return undefined;
}

export const language = () => spoken;

const find = (key) => key.split('.').reduce((place, name) => place?.[name], words);

export const has = (key) => typeof find(key) === 'string';

// The words of a key, with {name} replaced by values.name. Where there are words for one and for other, values.count decides.
export function t(key, values = {}) {
  let found = find(key) ?? key;
  if (Array.isArray(found)) return found;
  if (typeof found === 'object') found = found[new Intl.PluralRules(spoken).select(values.count)] ?? found.other;
  return found.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
}

const formats = new Map();

function format(options) {
  const key = spoken + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(spoken, options));
  return formats.get(key);
}

export const day = (time) => format({ dateStyle: 'medium' }).format(new Date(time));
export const moment = (time) => format({ dateStyle: 'medium', timeStyle: 'short' }).format(new Date(time));
export const clockTime = (time) => format({ timeStyle: 'medium' }).format(new Date(time));

// As short as it can be: the time of today, the day of before.
export function brief(time) {
  const date = new Date(time);
  return date.toDateString() === new Date().toDateString() ? format({ timeStyle: 'short' }).format(date) : moment(time);
}

// An owner as short as people know it: of a service account, its namespace and its name.
export const short = (owner) => owner?.replace(/^system:serviceaccount:([^:]+):/, '$1/') ?? '–';
