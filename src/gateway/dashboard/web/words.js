// What the page says, in the language of whoever reads it. A language is one file in words/, all with the same keys.
import { setting } from './settings.js';

const FILES = { en: () => import('./words/en.js'), de: () => import('./words/de.js') };
// What is said in windows over the page is loaded with the first of them.
const OF_WINDOWS = { en: () => import('./words/en_windows.js'), de: () => import('./words/de_windows.js') };

export const LANGUAGES = [{ code: 'en', name: 'English' }, { code: 'de', name: 'Deutsch' }];

let spoken = 'en';
let words = {};

// Loads the language that was chosen, or that the browser asks for; to be awaited before anything is said.
export async function loadWords() {
  const wanted = [setting('language'), ...navigator.languages.map((tag) => tag.slice(0, 2))];
  const code = wanted.find((one) => one in FILES) ?? 'en';
  const more = withWindows && OF_WINDOWS[code]();
  words = { ...(await FILES[code]()).default, ...(await more)?.default };
  spoken = code;
}

let withWindows = false;

export async function loadWordsOfWindows() {
  if (withWindows) return;
  const more = (await OF_WINDOWS[spoken]()).default;
  withWindows = true;
  words = { ...words, ...more };
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
