// <integration-connectors>: which MCPs are ready for the signed-in user, and what to do about the others.
//
//   <script type="module" src="/integrations-assets/integration-connectors.js"></script>
//   <integration-connectors organization="acme" mcps="gmail google_drive"></integration-connectors>
//
// For pages of the same origin as the API; the session cookie says who is asking. No dependency; works under
// "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'".
//
// Attributes
//   organization   required: the id of the organization; while it is absent or empty, the element waits
//   mcps           optional: MCPs to show, separated by spaces, in this order; absent: every MCP there is; empty: none
//
// Method      refresh()   asks again now; returns a promise. Done without being asked when the tab is looked at again.
// Property    states      the last answer, an array of {mcp, name, service, state, missing_scopes}; empty before the first one
//
// Events (they bubble and cross shadow boundaries)
//   integration-connectors-loaded    after every answer; detail: {organization, states, ready}, ready being true when there are MCPs and each is ready
//   integration-connectors-changed   also, when an MCP's state differs from the answer before; same detail
//   integration-connectors-failed    no answer; detail: {organization, status, code}, status 0 when the network failed. After a
//                                    fault that may pass, the list and states stay, and ::part(stale) says how old they are
//
// Styling
//   ::part(list) ::part(item) ::part(name) ::part(description) ::part(badge) ::part(warning) ::part(link) ::part(error) ::part(stale) ::part(empty) ::part(retry)
//   An item's part is also its state: ::part(ready), ::part(not_connected), ::part(reconnect_required), ::part(missing_scopes), ::part(unavailable)
//   --integration-connectors-accent      links and focus ring
//   --integration-connectors-text        text
//   --integration-connectors-muted       secondary text
//   --integration-connectors-surface     background of an item
//   --integration-connectors-border      lines
//   --integration-connectors-ready       the word Ready
//   --integration-connectors-warning     warnings
//   --integration-connectors-radius      corners
//   The font is the page's; colours follow color-scheme and prefers-color-scheme when not set.

import { PERMISSION_WORDS } from './permission-words.js';

export function permission(scope) {
  return Object.hasOwn(PERMISSION_WORDS, scope) ? PERMISSION_WORDS[scope] : `use “${scope.split('/').filter(Boolean).at(-1)}”`;
}

export function permissions(scopes) {
  const words = [...new Set(scopes.map(permission))];
  if (words.length < 2) return words.join('');
  return `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}

// The state of an MCP as a badge and a sentence with the next step.
export function explain({ name, state, missing_scopes: missing = [] }, service) {
  switch (state) {
    case 'ready':
      return { badge: 'Ready', warning: '' };
    case 'not_connected':
      return { badge: 'Not connected', warning: `${service} is not connected. Connect it to use ${name}.` };
    case 'reconnect_required':
      return { badge: 'Reconnect required', warning: `The connection to ${service} no longer works. Reconnect it to use ${name}.` };
    case 'missing_scopes':
      return {
        badge: 'Permission missing',
        warning: missing.length > 0
          ? `Permission to ${permissions(missing)} is missing. Reconnect ${service} and tick it.`
          : `A permission that ${name} needs is missing. Reconnect ${service} and tick every permission.`,
      };
    default:
      return { badge: 'Unavailable', warning: `${name} is not offered here. Ask your administrator.` };
  }
}

// Only a path of this origin is ever linked to; a path that begins with two slashes would name another host.
export function ownPath(path, organization) {
  const inside = typeof path === 'string' && URL.canParse(path, location.origin) ? new URL(path, location.origin) : null;
  const own = inside?.origin === location.origin && /^\/(?!\/)/.test(inside.pathname);
  const url = own ? inside : new URL('/integrations', location.origin);
  url.searchParams.set('organization', organization);
  return url.pathname + url.search + url.hash;
}

const STYLE = `
:host {
  --accent: var(--integration-connectors-accent, #2f5bd7);
  --text: var(--integration-connectors-text, #1b2330);
  --muted: var(--integration-connectors-muted, #525c6e);
  --surface: var(--integration-connectors-surface, #fff);
  --border: var(--integration-connectors-border, #dce1e9);
  --ready: var(--integration-connectors-ready, #14683a);
  --warning: var(--integration-connectors-warning, #7a4a00);
  display: block;
  color: var(--text);
}
@media (prefers-color-scheme: dark) {
  :host {
    --accent: var(--integration-connectors-accent, #9db8ff);
    --text: var(--integration-connectors-text, #e7eaf0);
    --muted: var(--integration-connectors-muted, #a9b3c3);
    --surface: var(--integration-connectors-surface, #1a1f28);
    --border: var(--integration-connectors-border, #303948);
    --ready: var(--integration-connectors-ready, #7fdca6);
    --warning: var(--integration-connectors-warning, #f3c875);
  }
}
:host([hidden]) { display: none; }
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 0.5rem; }
li, .error {
  background: var(--surface);
  border: 1px solid var(--border);
  border-radius: var(--integration-connectors-radius, 10px);
  padding: 0.75rem 1rem;
  overflow-wrap: anywhere;
}
.head { display: flex; flex-wrap: wrap; gap: 0.25rem 0.75rem; align-items: baseline; justify-content: space-between; }
.stale { margin-bottom: 0.5rem; }
.name { font-weight: 600; }
.badge { font-size: 0.875em; font-weight: 600; color: var(--warning); }
.ready .badge { color: var(--ready); }
p { margin: 0.25rem 0 0; line-height: 1.5; }
.description, .loading, .empty { color: var(--muted); font-size: 0.9375em; }
a { color: var(--accent); }
button {
  font: inherit; color: var(--accent); background: none; border: 1px solid currentColor;
  border-radius: 8px; padding: 0.25rem 0.75rem; margin-top: 0.5rem; min-height: 2rem; cursor: pointer;
}
a:focus-visible, button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
`;

const FAILURES = {
  unauthenticated: 'You are not signed in. Sign in, then try again.',
  organization_forbidden: 'You have no access to this organization.',
  rate_limited: 'Too many requests. Try again in a minute.',
};

function node(name, part, text = '') {
  const result = document.createElement(name);
  result.className = part;
  result.setAttribute('part', part);
  result.textContent = text;
  return result;
}

async function ask(path) {
  let response;
  let body;
  try {
    response = await fetch(path, { cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(20000) });
    body = await response.json();
  } catch {
    throw { status: response?.status ?? 0, code: response ? 'no_answer' : 'network' };
  }
  if (!response.ok) throw { status: response.status, code: typeof body?.code === 'string' ? body.code : 'no_answer' };
  return body;
}

class IntegrationConnectors extends HTMLElement {
  static observedAttributes = ['organization', 'mcps'];

  #root = this.attachShadow({ mode: 'open' });
  #body = node('div', 'body');
  #live = node('p', 'unseen');
  #states = [];
  #descriptions = new Map();
  #turn = 0;
  #drawn = null;
  #loadedAt = null;
  #scheduled = false;
  #onVisible = () => {
    if (document.visibilityState === 'visible') this.refresh();
  };

  constructor() {
    super();
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    this.#root.adoptedStyleSheets = [sheet];
    this.#live.setAttribute('role', 'status');
    this.#root.append(this.#body, this.#live);
  }

  get states() {
    return structuredClone(this.#states);
  }

  connectedCallback() {
    document.addEventListener('visibilitychange', this.#onVisible);
    this.#schedule();
  }

  disconnectedCallback() {
    document.removeEventListener('visibilitychange', this.#onVisible);
    this.#turn += 1;
  }

  attributeChangedCallback(name, before, after) {
    if (before === after || !this.isConnected) return;
    this.#drawn = null;
    this.#schedule();
  }

  // Several attributes set in one go ask once.
  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (this.isConnected) this.refresh();
    });
  }

  async refresh() {
    const organization = this.getAttribute('organization') ?? '';
    const turn = ++this.#turn;
    // A framework may set the attribute later, or set it empty first.
    if (organization === '') {
      this.#drawn = null;
      this.#states = [];
      this.#body.replaceChildren(node('p', 'loading', 'Loading connectors…'));
      return;
    }
    if (this.#drawn === null) this.#body.replaceChildren(node('p', 'loading', 'Loading connectors…'));
    try {
      const [{ mcps }, services] = await Promise.all([
        ask(`/api/organizations/${encodeURIComponent(organization)}/mcps`),
        ask('/api/services').then((answer) => answer.services, () => []),
      ]);
      if (turn !== this.#turn) return;
      this.#show(organization, this.#select(mcps), services);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#fail(organization, error);
    }
  }

  #select(mcps) {
    const wanted = this.getAttribute('mcps')?.split(/\s+/).filter(Boolean);
    if (wanted === undefined) return mcps;
    return [...new Set(wanted)].map((id) => mcps.find(({ mcp }) => mcp === id)
      ?? { mcp: id, name: id, service: '', state: 'unavailable', missing_scopes: [] });
  }

  #show(organization, states, services) {
    const names = new Map(services.map(({ service, name }) => [service, name]));
    this.#descriptions = new Map(services.flatMap(({ mcps = [] }) => mcps.map(({ mcp, description }) => [mcp, description])));
    const before = this.#drawn;
    const text = JSON.stringify([organization, states, [...names]]);
    const changed = before !== null && before !== text;
    this.#states = states;
    if (before !== text) {
      this.#drawn = text;
      const refocus = this.#root.activeElement !== null;
      const list = node('ul', 'list');
      list.append(...states.map((state) => this.#item(organization, state, names.get(state.service) ?? state.service)));
      this.#body.replaceChildren(states.length > 0 ? list : node('p', 'empty', 'No connectors are chosen.'));
      if (refocus) this.#body.querySelector('a')?.focus();
    }
    const waiting = states.filter(({ state }) => state !== 'ready');
    const ready = states.length > 0 && waiting.length === 0;
    const detail = { organization, states: this.states, ready };
    this.#loadedAt = new Date();
    this.#body.querySelector('.stale')?.remove();
    if (changed) {
      this.#live.textContent = ready
        ? 'All connectors are ready.'
        : waiting.map((state) => explain(state, names.get(state.service) ?? state.service).warning).join(' ');
    }
    this.#emit('loaded', detail);
    if (changed) this.#emit('changed', detail);
  }

  #item(organization, mcp, service) {
    const { badge, warning } = explain(mcp, service);
    const item = node('li', `item ${mcp.state}`);
    const head = node('div', 'head');
    head.append(node('span', 'name', mcp.name), node('span', 'badge', badge));
    item.append(head);
    const description = this.#descriptions.get(mcp.mcp);
    if (description) item.append(node('p', 'description', description));
    if (!warning) return item;

    const paragraph = node('p', 'warning', `${warning} `);
    if (mcp.state !== 'unavailable') {
      const link = node('a', 'link', 'Open Integrations');
      link.href = ownPath(mcp.connect_url, organization);
      paragraph.append(link);
    }
    item.append(paragraph);
    return item;
  }

  #fail(organization, { status = 0, code = 'no_answer' }) {
    const reason = Object.hasOwn(FAILURES, code) ? FAILURES[code] : 'The server gave no usable answer. Try again in a moment.';
    const passing = status === 0 || status === 429 || status >= 500;
    const stale = passing && this.#drawn !== null;
    const heading = stale ? 'This list may be out of date' : 'Failed to load connectors';
    const words = stale ? `${reason} The list was loaded at ${this.#loadedAt.toLocaleTimeString(undefined, { timeStyle: 'short' })}.` : reason;
    const focused = this.#root.activeElement?.matches('button');
    const error = node('div', stale ? 'error stale' : 'error');
    const retry = node('button', 'retry', 'Retry');
    retry.type = 'button';
    retry.addEventListener('click', async () => {
      await this.refresh();
      this.#body.querySelector('button, a')?.focus();
    });
    error.append(node('strong', 'name', heading), node('p', 'warning', words), retry);
    if (stale) {
      this.#body.querySelector('.stale')?.remove();
      this.#body.prepend(error);
      if (focused) retry.focus();
    } else {
      this.#drawn = null;
      this.#states = [];
      this.#body.replaceChildren(error);
    }
    this.#live.textContent = `${heading}. ${words}`;
    this.#emit('failed', { organization, status, code });
  }

  #emit(what, detail) {
    this.dispatchEvent(new CustomEvent(`integration-connectors-${what}`, { bubbles: true, composed: true, detail }));
  }
}

customElements.define('integration-connectors', IntegrationConnectors);
