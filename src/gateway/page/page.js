'use strict';
// Lists what the document says, sends what the form says, and shows the same as a curl line.

const token = document.getElementById('token');

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Quoted for a shell.
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function operation(path, method, described) {
  const fields = (described.parameters ?? []).map((parameter) => {
    const input = element('input', { id: `${described.operationId}-${parameter.name}`, required: parameter.required });
    const label = element('label', { htmlFor: input.id }, `${parameter.name} (${parameter.in}): ${parameter.description ?? ''}`);
    return { parameter, input, label };
  });
  const content = described.requestBody?.content?.['application/json'];
  const body = content && element('textarea', {
    id: `${described.operationId}-body`, value: JSON.stringify(content.example ?? {}, null, 2),
  });
  const curl = element('pre', {});
  const answer = element('pre', { hidden: true });
  const picture = element('img', { hidden: true, alt: 'The code to scan' });

  const request = () => {
    let url = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { parameter, input } of fields) {
      if (parameter.in === 'path') url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value || `{${parameter.name}}`));
      else if (input.value && parameter.in === 'query') query.set(parameter.name, input.value);
      else if (input.value) headers[parameter.name] = input.value;
    }
    if (body) headers['Content-Type'] = 'application/json';
    const text = query.toString();
    return { url: text ? `${url}?${text}` : url, headers, body: body?.value };
  };
  const show = () => {
    const { url, headers, body } = request();
    const parts = [`curl -X ${method.toUpperCase()} -H "Authorization: Bearer $TOKEN"`];
    for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
    if (body) parts.push(`-d ${quoted(body)}`);
    curl.textContent = `${parts.join(' ')} ${quoted(location.origin + url)}`;
  };
  // One request at a time: a second click would send a message twice. A stream of events goes on until it is stopped.
  let open;
  const send = async () => {
    if (open) return open.abort();
    open = new AbortController();
    button.textContent = 'Stop';
    await ask(open.signal);
    button.textContent = 'Send';
    open = undefined;
  };
  const ask = async (signal) => {
    const { url, headers, body } = request();
    answer.hidden = false;
    picture.hidden = true;
    answer.textContent = 'Sent; waiting for the answer.';
    try {
      const response = await fetch(url, {
        method: method.toUpperCase(), body, headers: { ...headers, Authorization: `Bearer ${token.value}` }, signal,
      });
      const kind = response.headers.get('content-type') ?? '';
      const first = `${response.status} ${response.statusText}\n`;
      if (kind.startsWith('text/event-stream')) {
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        answer.textContent = first;
        for (let part = await reader.read(); !part.done; part = await reader.read()) answer.textContent += part.value;
      } else {
        const text = await response.text();
        const json = kind.startsWith('application/json') ? JSON.parse(text) : undefined;
        answer.textContent = first + (json ? JSON.stringify(json, null, 2) : text);
      }
    } catch (error) {
      if (signal.aborted) answer.textContent += '\nStopped; what was asked for may be done all the same.';
      else answer.textContent = `There is no answer: ${error.message}`;
    }
  };
  const draw = async () => {
    const { url } = request();
    const headers = { Authorization: `Bearer ${token.value}`, Accept: 'image/svg+xml' };
    const response = await fetch(url, { headers }).catch(() => undefined);
    if (!response?.ok) return send();
    picture.src = URL.createObjectURL(await response.blob());
    picture.hidden = false;
  };

  const button = element('button', { type: 'button', onclick: send }, 'Send');
  const block = element('details', {},
    element('summary', {}, element('code', {}, `${method.toUpperCase()} ${path}`), ` ${described.summary ?? ''}`),
    element('p', {}, described.description ?? ''));
  for (const { label, input } of fields) block.append(label, input);
  if (body) block.append(element('label', { htmlFor: body.id }, 'Body'), body);
  block.append(button);
  if (described.operationId === 'qr') block.append(element('button', { type: 'button', onclick: draw }, 'Draw'));
  block.append(curl, answer, picture);
  block.addEventListener('input', show);
  show();
  return block;
}

async function start() {
  const place = document.getElementById('operations');
  try {
    const described = await (await fetch('/api/v1/openapi.json')).json();
    const all = Object.entries(described.paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, one]) => operation(path, method, one)));
    place.replaceChildren(...all);
  } catch (error) {
    place.textContent = `The document cannot be read: ${error.message}`;
  }
}
start();
