// What the parts are written in: Preact's elements as tagged templates. A value in a template is text, never markup.
import { Component, Fragment, h, render } from './vendor/preact.js';
import { useLayoutEffect, useState } from './vendor/hooks.js';
import htm from './vendor/htm.js';

export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from './vendor/hooks.js';
export { Fragment, render };
export const html = htm.bind(h);

// A part that is drawn again only when one of its properties is another value.
export function memo(Part) {
  return class extends Component {
    shouldComponentUpdate(next) {
      const names = new Set([...Object.keys(next), ...Object.keys(this.props)]);
      return [...names].some((name) => next[name] !== this.props[name]);
    }

    render(properties) {
      return html`<${Part} ...${properties} />`;
    }
  };
}

// The part is drawn again whenever these listeners are called. It listens before anything else can happen: an effect that waits for the
// next frame would miss what changes until then, and a browser that is busy or in the background takes long for a frame.
export function useListeners(listeners) {
  const [, draw] = useState(0);
  useLayoutEffect(() => {
    const listener = () => draw((count) => count + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
}
