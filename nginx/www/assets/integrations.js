// /integrations: a card for each enabled service, with what can be done to its connection.

import {
  announce, clearToasts, clockTime, element, icon, inWords, organizationPath, request, setBusy, timeAgo, toast, whenSlow,
} from './common.js';
import { openConsentPage, takeConnectedNote } from './flow.js';
import { permissions } from './integration-connectors.js';
import { listPage } from './list-page.js';
import { inOrganization } from './organization.js';

const BADGES = { valid: 'Valid', invalid: 'Invalid', unknown: 'Unknown' };

// Why a connection is not valid, and what to do.
const REASONS = {
  grant_revoked: (name) => [
    `${name} no longer accepts this connection: access was removed, the password was changed, or it was not used for a long time.`,
    'Reconnect to restore access.',
  ],
  provider_unreachable: (name) => [
    `${name} could not be reached at the last check. The connection is kept.`,
    'Validate again in a few minutes.',
  ],
  provider_misconfigured: (name) => [
    `${name} refused this application itself. The connection is kept.`,
    'An administrator of this service must correct its settings; then validate again.',
  ],
  provider_policy: (name) => [
    `A policy of your ${name} administrator blocks this access. The connection is kept.`,
    `Ask your ${name} administrator to allow this application, then validate again.`,
  ],
  provider_changed: (name) => [
    `The settings for ${name} were changed after this account was connected.`,
    'Reconnect to use it again.',
  ],
  identity_changed: (name) => [
    `${name} answered for another account than the one that is connected.`,
    'Reconnect and choose the account that is shown here.',
  ],
  tokens_unreadable: () => [
    'The stored access can no longer be opened by this service.',
    'Reconnect to store it anew.',
  ],
};

const RUNNING = {
  connect: 'Connecting…',
  validate: 'Validating…',
  reconnect: 'Reconnecting…',
  disconnect: 'Disconnecting…',
};

let page = null;
let holder = null;
// What runs goes on while another organization is looked at.
const running = new Map();
const slow = new Set();

function keyOf(service) {
  return `${page.organization}/${service.service}`;
}

function recordOf(service) {
  return page.list.find((record) => record.service === service.service) ?? null;
}

function account(record) {
  return record.oauth_email || record.oauth_user_id || 'this account';
}

function reasonWords(record, name) {
  if (record.status === 'valid') return [];
  if (Object.hasOwn(REASONS, record.status_reason ?? '')) return REASONS[record.status_reason](name);
  if (record.status === 'invalid') return REASONS.grant_revoked(name);
  return [`It is not known whether ${name} still accepts this connection.`, 'Validate to find out.'];
}

// ---- the card

function badge(record) {
  const status = Object.hasOwn(BADGES, record.status) ? record.status : 'unknown';
  return element('span', { class: `badge badge-${status}` }, BADGES[status]);
}

function mcpList(service, record) {
  if (!service.mcps?.length) return null;
  const lacking = new Set(record?.missing_scopes);
  const dead = record !== null && (record.status === 'invalid' || record.status_reason === 'tokens_unreadable');
  const items = service.mcps.map((mcp) => {
    const missing = mcp.scopes.filter((scope) => lacking.has(scope));
    if (record === null) return element('li', null, element('span', { class: 'dot' }), element('span', null, mcp.name));
    if (dead) return element('li', { class: 'lacks' }, icon('warning'), element('span', null, `${mcp.name}: waits until you reconnect`));
    if (missing.length === 0) return element('li', { class: 'serves' }, icon('check'), element('span', null, mcp.name));
    const words = `${mcp.name}: lacks permission to ${permissions(missing)}. Reconnect and tick it.`;
    return element('li', { class: 'lacks' }, icon('warning'), element('span', null, words));
  });
  return element(
    'div',
    { class: 'fact' },
    element('dt', null, record === null ? 'For MCPs' : 'MCPs'),
    element('dd', null, element('ul', { class: 'mcps' }, ...items)),
  );
}

function facts(service, record) {
  const mcps = mcpList(service, record);
  if (record === null) return mcps && element('dl', { class: 'facts' }, mcps);
  const connected = record.connected_at && timeAgo(record.connected_at);
  const validated = record.validated_at && timeAgo(record.validated_at);
  return element(
    'dl',
    { class: 'facts' },
    record.oauth_email && element('div', { class: 'fact' }, element('dt', null, 'Account'), element('dd', null, record.oauth_email)),
    record.oauth_user_id && element(
      'div',
      { class: 'fact' },
      element('dt', null, 'Account ID'),
      element('dd', { class: 'id' }, record.oauth_user_id),
    ),
    connected && element('div', { class: 'fact' }, element('dt', null, 'Connected'), element('dd', null, connected)),
    element('div', { class: 'fact' }, element('dt', null, 'Last checked'), element('dd', null, validated || 'never')),
    mcps,
  );
}

function button(service, action, label, kind) {
  const current = running.get(keyOf(service));
  const node = element('button', {
    type: 'button',
    class: `button ${kind}`,
    'data-action': action,
    'aria-describedby': `service-${service.service}`,
    onclick: () => act(service, action),
  });
  if (current === undefined) node.textContent = label;
  else if (current === action) setBusy(node, true, RUNNING[action]);
  else {
    node.setAttribute('aria-disabled', 'true');
    node.textContent = label;
  }
  return node;
}

function card(service) {
  const record = recordOf(service);
  const id = `service-${service.service}`;
  const [sentence, next] = record ? reasonWords(record, service.name) : [];
  const buttons = record === null
    ? [button(service, 'connect', 'Connect', 'primary')]
    : [
      button(service, 'validate', 'Validate', ''),
      button(service, 'reconnect', 'Reconnect', record.status === 'invalid' ? 'primary' : ''),
      button(service, 'disconnect', 'Disconnect', 'danger'),
    ];
  const waiting = slow.has(keyOf(service))
    && element('p', { class: 'muted waiting' }, `${service.name} is slow to answer. Still waiting…`);

  return element(
    'article',
    { class: 'card', 'aria-labelledby': id, 'data-service': service.service, 'aria-busy': running.has(keyOf(service)) && 'true' },
    element(
      'div',
      { class: 'card-head' },
      element('span', { class: 'logo', 'aria-hidden': 'true' }, [...service.name][0] ?? ''),
      element(
        'div',
        { class: 'card-title' },
        element('div', { class: 'card-name' }, element('h2', { id }, service.name), record && badge(record)),
        service.description && element('p', { class: 'muted' }, service.description),
      ),
    ),
    sentence && element(
      'div',
      { class: `reason reason-${record.status}` },
      element('p', null, sentence),
      element('p', null, element('strong', null, next)),
    ),
    facts(service, record),
    element('div', { class: 'actions' }, ...buttons),
    waiting,
  );
}

// Drawn anew as a whole; the focus stays on the same action, or goes to the card's first one.
function draw() {
  const focused = holder.contains(document.activeElement) ? document.activeElement : null;
  const service = focused?.closest('[data-service]')?.dataset.service;
  const action = focused?.dataset.action;
  if (page.services.length === 0) {
    holder.replaceChildren(element(
      'section',
      { class: 'panel' },
      element('h2', null, 'No services are offered yet'),
      element('p', null, 'An administrator of this site can enable a provider. Choose Refresh afterwards.'),
    ));
    return;
  }
  holder.replaceChildren(...page.services.map(card));
  if (!service) return;
  const again = holder.querySelector(`[data-service="${CSS.escape(service)}"]`);
  const target = again?.querySelector(`[data-action="${CSS.escape(action ?? '')}"]`) ?? again?.querySelector('[data-action]');
  target?.focus({ preventScroll: true });
}

// Only where cards are shown: another organization may just be loading.
function drawAgain() {
  if (holder.querySelector('[data-service]')) draw();
}

// ---- the actions

function store(record) {
  page.list = page.list.filter(({ service }) => service !== record.service).concat(record);
  frame.changed();
}

function forget(service) {
  page.list = page.list.filter((record) => record.service !== service.service);
  frame.changed();
}

async function validate(service, organization) {
  const { is_valid: isValid, integration } = await request('POST', organizationPath(organization, `integrations/${service.service}`));
  if (page.organization === organization) store(integration);
  if (isValid) {
    toast('success', `${inOrganization(organization)}${service.name} is valid: it accepted the connection to ${account(integration)}.`);
  } else {
    toast('warning', `${inOrganization(organization)}${service.name} was checked: ${BADGES[integration.status] ?? BADGES.unknown}. ${reasonWords(integration, service.name).join(' ')}`);
  }
}

function disconnectedWords({ revocation, access_until: until }, name) {
  const streams = ' A program that was at work may go on for a short time, usually up to 15 minutes.';
  if (revocation === 'revoked') return `${name} disconnected. Access was also removed at ${name}.${streams}`;
  const clock = until ? clockTime(until) : '';
  const rest = clock ? ` Access that was already handed out ends by ${clock}.` : '';
  if (revocation === 'kept_shared') {
    return `${name} disconnected here. Access at ${name} was kept, because another of your connections uses this account.${rest}${streams}`;
  }
  return `${name} disconnected here. Access was not removed at ${name}: to remove it, open the security settings of your ${name} account and remove this application there.${rest}${streams}`;
}

async function disconnect(service, organization) {
  const answer = await request('DELETE', organizationPath(organization, `integrations/${service.service}`));
  if (page.organization === organization) forget(service);
  toast(answer.revocation === 'revoked' ? 'success' : 'warning', inOrganization(organization) + disconnectedWords(answer, service.name));
}

// The page is leaving; should the visitor stop that, the buttons come back.
async function leave(service, organization) {
  await openConsentPage(organization, service.service);
  await new Promise((resolve) => setTimeout(resolve, 10000));
}

const ACTIONS = { connect: leave, reconnect: leave, validate, disconnect };

function failed(error, service, organization, action) {
  if (error.code === 'unauthenticated') {
    frame.signedOut(error);
    return;
  }
  const uncertain = (error.code === 'timeout' || error.code === 'no_answer') && action !== 'connect' && action !== 'reconnect';
  const doubt = uncertain ? ' Choose Refresh to see whether it was done.' : '';
  toast('error', `${inOrganization(organization)}${service.name}: ${inWords(error, service.name)}${doubt}`, error);
  if (['integration_not_found', 'service_not_found', 'organization_forbidden'].includes(error.code)) frame.reload();
}

async function act(service, action) {
  const { organization } = page;
  const key = keyOf(service);
  if (running.has(key)) return;
  const record = recordOf(service);
  const question = `Disconnect ${service.name}${record ? ` (${account(record)})` : ''} in the organization ${organization}?\n\nMCPs that use it stop working until you connect again.`;
  if (action === 'disconnect' && !window.confirm(question)) return;

  clearToasts();
  running.set(key, action);
  announce(`${inOrganization(organization)}${service.name}: ${RUNNING[action]}`);
  draw();
  const settled = whenSlow(() => {
    slow.add(key);
    announce(`${inOrganization(organization)}${service.name} is slow to answer. Still waiting…`);
    drawAgain();
  });
  try {
    await ACTIONS[action](service, organization);
  } catch (error) {
    failed(error, service, organization, action);
  } finally {
    settled();
    slow.delete(key);
    running.delete(key);
    announce('');
    drawAgain();
  }
}

function welcome() {
  const note = takeConnectedNote();
  const service = note && page.services.find((one) => one.service === note.service);
  if (service) toast('success', `${inOrganization(note.organization)}${service.name} connected.`);
}

const frame = listPage({
  resource: 'integrations',
  title: 'integrations',
  render(loaded, content) {
    page = loaded;
    holder = content;
    draw();
    welcome();
  },
});

window.addEventListener('pageshow', (event) => {
  if (!event.persisted) return;
  running.clear();
  slow.clear();
  if (page) drawAgain();
});
