// Keeps the focus near where it was when what had it is taken away: by an event, most often, while somebody works there.

const FOCUSABLE = 'a[href], button:not(:disabled), input:not(:disabled), select:not(:disabled), textarea:not(:disabled), summary, [tabindex]';
// What the focus comes to by itself is pressed unseen by the next Enter: nothing that cannot be taken back.
const DANGEROUS = '.danger';
// What belongs together, from within: an instance or a message, a window, the top and the rest of the page.
const REGIONS = '[data-id], dialog, .top, main';

// Where the focus is, and under each window where it was before.
const here = { element: null };
const kept = new Set([here]);

const isLost = () => !document.activeElement || document.activeElement === document.body;

// Remembers an element until it is given back; meanwhile it may be taken away, and what is beside it takes its place.
export function keep(element) {
  const place = { element };
  kept.add(place);
  // Gives the focus back, unless the browser did or it is elsewhere by now.
  const giveBack = (from) => {
    kept.delete(place);
    if (isLost() || from.contains(document.activeElement)) place.element?.focus();
  };
  return { giveBack };
}

function entry(node) {
  if (node?.nodeType !== Node.ELEMENT_NODE || !node.isConnected) return undefined;
  return [node, ...node.querySelectorAll(FOCUSABLE)].find((one) => one.matches(FOCUSABLE) && !one.matches(DANGEROUS) && one.checkVisibility());
}

// What was taken out of the page with this element in it, and from where.
function gapOf(gone, records) {
  let gap;
  for (let node = gone; !node.isConnected; node = gap.target) {
    gap = records.find(({ removedNodes }) => [...removedNodes].some((one) => one.contains(node)));
    if (!gap) return undefined;
  }
  return gap;
}

// The same button where it stands now, else what is beside the gap, else the beginning of what is around it.
function substitute(gone, records) {
  const gap = gapOf(gone, records);
  let region = gap?.target.closest(REGIONS);
  if (!region) return null;
  const { verb } = gone.dataset;
  const moved = verb && !gone.closest(REGIONS) && entry(region.querySelector(`[data-verb="${verb}"]`));
  let found = moved || entry(gap.nextSibling) || entry(gap.previousSibling) || entry(gap.target);
  for (; !found && region; region = region.parentElement?.closest(REGIONS)) found = entry(region);
  return found ?? null;
}

addEventListener('focusin', ({ target }) => {
  here.element = target;
});
// What is still there a moment later was left, and not taken away.
addEventListener('focusout', ({ target }) => setTimeout(() => {
  if (here.element === target && target.isConnected && document.activeElement !== target) here.element = null;
}));

new MutationObserver((records) => {
  for (const place of kept) {
    if (place.element && !place.element.isConnected) place.element = substitute(place.element, records);
  }
  // One that only moved loses the focus too.
  if (isLost()) here.element?.focus();
}).observe(document.getElementById('app'), { childList: true, subtree: true });
