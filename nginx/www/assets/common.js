// Shared by the pages: requests and their failures in words, elements, toasts, times, signing in.

import { keepForSignIn, recall, remember } from './organization.js';

const REQUEST_TIMEOUT = 20000;
const SLOW_AFTER = 4000;
const SIGN_IN_KEY = 'sign-in-attempt';

export const SERVICE_PATTERN = /^[a-z][a-z0-9_]{0,31}$/;

// ---- elements

export function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key === 'onclick') node.addEventListener('click', value);
    else if (value === true) node.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const ICONS = {
  check: 'M4 10.5l4 4 8-9',
  cross: 'M5 5l10 10M15 5L5 15',
  warning: 'M10 3.5l7.5 13h-15zM10 8v4.2M10 14.4v.2',
};

export function icon(name) {
  const namespace = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(namespace, 'svg');
  svg.setAttribute('viewBox', '0 0 20 20');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(namespace, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

export function byId(id) {
  return document.getElementById(id);
}

export function announce(text) {
  byId('status').textContent = text;
}

// ---- requests

export class ApiError extends Error {
  constructor(code, { status = 0, retryAfter = 0, problem = {} } = {}) {
    super(code);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
    this.problem = problem;
  }

  text(member) {
    const value = this.problem[member];
    return typeof value === 'string' ? value : '';
  }
}

function retrySeconds(header) {
  if (!header) return 0;
  const seconds = /^\d{1,6}$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) && seconds > 0 ? Math.ceil(seconds) : 0;
}

// The mode stays fetch's default, "cors": in mode "same-origin" the standard has a page with the
// policy "no-referrer" send "Origin: null", which the API refuses.
export async function request(method, path, body) {
  const options = {
    method,
    headers: { Accept: 'application/json' },
    cache: 'no-store',
    redirect: 'error',
    signal: AbortSignal.timeout(REQUEST_TIMEOUT),
  };
  if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json';
    options.body = JSON.stringify(body);
  }

  let response;
  let text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch (error) {
    if (error.name === 'TimeoutError') throw new ApiError('timeout');
    throw new ApiError(navigator.onLine ? 'no_answer' : 'offline');
  }

  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = null;
  }
  const readable = answer !== null && typeof answer === 'object';
  if (response.ok && readable) return answer;

  const problem = readable ? answer : {};
  const code = typeof problem.code === 'string' ? problem.code : 'no_answer';
  const retryAfter = retrySeconds(response.headers.get('Retry-After'));
  throw new ApiError(code, { status: response.status, retryAfter, problem });
}

export function organizationPath(organization, resource) {
  return `/api/organizations/${encodeURIComponent(organization)}/${resource}`;
}

// ---- failures in words

function count(number, unit) {
  return `${number} ${unit}${number === 1 ? '' : 's'}`;
}

export function duration(seconds) {
  if (seconds < 90) return count(seconds, 'second');
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? count(minutes, 'minute') : count(Math.ceil(minutes / 60), 'hour');
}

function whenToRetry(error, otherwise) {
  return error.retryAfter > 0 ? `Try again in ${duration(error.retryAfter)}.` : otherwise;
}

const FAILURES = {
  offline: () => 'You are offline. Check your network connection and try again.',
  no_answer: () => 'The server gave no usable answer. Check your network connection and try again in a moment.',
  timeout: () => 'The server took too long to answer. Try again in a moment.',
  unauthenticated: () => 'You are not signed in, or your session has ended. Sign in and try again.',
  ambiguous_credentials: () => 'Your browser sent two sessions at once. Sign out, sign in again and try again.',
  organization_forbidden: () => 'You have no access to this organization. Choose another one, or ask its administrator to add you.',
  cross_origin: () => 'Your browser did not show that the request came from this page. Reload the page and try again.',
  misdirected: () => 'This address does not belong to the service. Open it at its usual address.',
  route_not_found: () => 'The server does not know this request. Reload the page and try again.',
  service_not_found: () => 'This service is not offered here. Go back to Integrations to see what is.',
  integration_not_found: (error, name) => `${name} is not connected any more. Connect it again if you need it.`,
  state_invalid: () => 'This sign-in is not valid any more: it was used before, took longer than ten minutes, or was begun in another session. Start again.',
  issuer_mismatch: (error, name) => `The answer did not come from ${name}, so nothing was connected. Start again; if this happens again, tell your administrator.`,
  consent_declined: (error, name) => `You pressed Cancel at ${name}, so nothing was changed. You can connect whenever you like.`,
  authorization_failed: (error, name) => `${name} did not complete the sign-in, so nothing was changed. Try again; if it fails again, ask your administrator whether ${name} allows this application.`,
  code_rejected: (error, name) => `${name} did not accept the sign-in, perhaps because it came too late. Nothing was changed. Start again.`,
  identity_invalid: (error, name) => `The identity that ${name} sent could not be verified, so nothing was changed. Try again; if it fails again, tell your administrator.`,
  scopes_missing: (error, name) => `No permission that the MCPs need was ticked at ${name}, so nothing was changed. Try again and tick at least one.`,
  offline_access_missing: (error, name) => `${name} gave no lasting access, so nothing was changed. Remove this application in the security settings of your ${name} account, then connect again.`,
  reconnect_required: (error, name) => `The connection to ${name} no longer works. Reconnect it.`,
  provider_misconfigured: (error, name) => `${name} refused this application itself, so nothing was changed. An administrator of this service must correct its settings.`,
  provider_unreachable: (error, name) => `${name} could not be reached, so nothing was changed. ${whenToRetry(error, 'Try again in a few minutes.')}`,
  rate_limited: (error) => `Too many attempts. ${whenToRetry(error, 'Try again in a minute.')}`,
  store_unavailable: (error) => `The service cannot reach its storage at the moment. ${whenToRetry(error, 'Try again in a moment.')}`,
  overloaded: (error) => `The service is very busy at the moment. ${whenToRetry(error, 'Try again in a moment.')}`,
  internal_error: () => 'Something went wrong on our side. Try again; if it happens again, tell your administrator.',
  account_mismatch: accountMismatch,
};

function accountMismatch(error, name) {
  const stored = error.text('stored_account');
  const chosen = error.text('chosen_account');
  if (stored && chosen) {
    return `This ${name} connection belongs to ${stored}. You chose ${chosen}. Nothing was changed.`;
  }
  return error.text('detail') || `You chose another ${name} account than the one that is connected, which was left as it is.`;
}

export function inWords(error, name = 'The provider') {
  if (!(error instanceof ApiError)) return 'Something went wrong on this page. Reload it and try again.';
  if (Object.hasOwn(FAILURES, error.code)) return FAILURES[error.code](error, name);
  return error.text('detail') || FAILURES.no_answer();
}

export function reference(error) {
  const id = error instanceof ApiError ? error.text('request_id') : '';
  return id ? element('small', { class: 'reference' }, `Reference: ${id}`) : null;
}

// ---- toasts

const TOAST_LIFE = 7000;

export function toast(kind, message, error = null) {
  const close = element('button', { type: 'button', class: 'toast-close', 'aria-label': 'Dismiss' }, icon('cross'));
  const node = element(
    'div',
    { class: `toast toast-${kind}` },
    icon(kind === 'success' ? 'check' : 'warning'),
    element('div', { class: 'toast-text' }, element('p', null, message), error && reference(error)),
    close,
  );

  const dismiss = () => {
    const focused = node.contains(document.activeElement);
    node.remove();
    if (focused) (document.querySelector('.toast-close') ?? byId('title')).focus();
  };
  close.addEventListener('click', dismiss);
  byId(kind === 'error' ? 'alerts' : 'toasts').append(node);

  // A failure stays until it is dismissed; a success waits while the pointer or the focus is on it.
  if (kind === 'error') return;
  const expire = () => {
    if (node.matches(':hover, :focus-within')) setTimeout(expire, 1000);
    else node.remove();
  };
  setTimeout(expire, TOAST_LIFE);
}

export function clearToasts() {
  byId('toasts').replaceChildren();
  byId('alerts').replaceChildren();
}

// ---- times

const RELATIVE = new Intl.RelativeTimeFormat('en', { numeric: 'always' });
const UNITS = [
  ['year', 31557600],
  ['month', 2629800],
  ['day', 86400],
  ['hour', 3600],
  ['minute', 60],
];

function ago(date) {
  const seconds = Math.max(0, (Date.now() - date.getTime()) / 1000);
  for (const [unit, length] of UNITS) {
    if (seconds >= length) return RELATIVE.format(-Math.floor(seconds / length), unit);
  }
  return 'just now';
}

export function timeAgo(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return null;
  const exact = date.toLocaleString(undefined, { dateStyle: 'full', timeStyle: 'medium' });
  return element('time', { datetime: date.toISOString(), title: exact }, ago(date));
}

export function clockTime(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return '';
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(undefined, today ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' });
}

setInterval(() => {
  for (const node of document.querySelectorAll('time[datetime]')) {
    const words = ago(new Date(node.dateTime));
    if (node.textContent !== words) node.textContent = words;
  }
}, 15000);

// ---- a visitor who is not signed in

async function signInAddress(error) {
  let address = error.text('sign_in_url');
  if (!address) {
    address = await request('GET', '/api/me').then(
      () => '',
      (refusal) => (refusal instanceof ApiError ? refusal.text('sign_in_url') : ''),
    );
  }
  if (!address || !URL.canParse(address, location.origin)) return null;
  const url = new URL(address, location.origin);
  return /^https?:$/.test(url.protocol) ? url : null;
}

// Shows where to sign in and goes there, once: a sign-in that brings the visitor back without
// a session must not send him round in circles.
export async function showSignIn(container, error, { returnTo, organization, sentence }) {
  keepForSignIn(organization);
  const url = await signInAddress(error);
  url?.searchParams.set('return_to', returnTo);
  const last = Number(recall('sessionStorage', SIGN_IN_KEY));
  const leave = url !== null && Date.now() - last > 60000;
  const next = url === null
    ? 'Sign in to your account, then come back to this page.'
    : leave ? 'Taking you to the sign-in page…' : 'Sign in to go on.';
  container.replaceChildren(element('p', null, sentence), element('p', null, next));
  if (url === null) return;
  const link = element('a', { class: 'button primary', href: url.href }, 'Sign in');
  container.append(element('p', { class: 'panel-action' }, link));
  if (!leave) return;
  remember('sessionStorage', SIGN_IN_KEY, String(Date.now()));
  setTimeout(() => location.assign(url.href), 1200);
}

export function signedIn() {
  remember('sessionStorage', SIGN_IN_KEY, null);
  keepForSignIn(null);
}

export function userWords(me) {
  return me.name && me.email ? `${me.name} (${me.email})` : userName(me);
}

export function userName(me) {
  return me.name || me.email || me.user_id;
}

// ---- a button that is running

// aria-disabled instead of disabled, so that the focus stays where it is.
export function setBusy(button, busy, label) {
  if (busy) button.setAttribute('aria-disabled', 'true');
  else button.removeAttribute('aria-disabled');
  button.classList.toggle('busy', busy && label.endsWith('…'));
  button.textContent = label;
}

export function whenSlow(action) {
  const timer = setTimeout(action, SLOW_AFTER);
  return () => clearTimeout(timer);
}
