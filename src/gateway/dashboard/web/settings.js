// What somebody chose for this browser.
import { useListeners } from './html.js';

const DEFAULTS = { theme: 'system', language: '', view: 'grid' };
const listeners = new Set();

function read(name) {
  try {
    return localStorage.getItem(`dashboard.${name}`) ?? DEFAULTS[name];
  } catch {
    return DEFAULTS[name];
  }
}

const chosen = Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, read(name)]));

export const setting = (name) => chosen[name];

export function choose(name, value) {
  chosen[name] = value;
  try {
    localStorage.setItem(`dashboard.${name}`, value);
  } catch {
    // A browser that keeps nothing forgets it at the next visit.
  }
  show();
  listeners.forEach((listener) => listener());
}

export function useSettings() {
  useListeners(listeners);
  return chosen;
}

export function show() {
  const { theme } = chosen;
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
