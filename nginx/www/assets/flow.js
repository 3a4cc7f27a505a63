// A consent flow that this browser began. The page notes the state's hash before it leaves for the provider. The callback
// page looks for that note: a link that another person sent, or a flow of another application, has none.

import { ApiError, organizationPath, request } from './common.js';
import { recall, remember } from './organization.js';

const CONNECTED_KEY = 'connected-service';
const PREFIX = 'flow:';
const LIFE = 600000;
const MOST = 20;

async function keyOf(state) {
  // A page outside a secure context cannot make a digest, and keeps no note.
  if (!window.crypto?.subtle) return null;
  const digest = await window.crypto.subtle.digest('SHA-256', new TextEncoder().encode(state));
  return PREFIX + [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function readNote(key) {
  try {
    return JSON.parse(recall('localStorage', key)) ?? {};
  } catch {
    return {};
  }
}

function isFresh({ time }) {
  return time <= Date.now() && Date.now() - time < LIFE;
}

function noteKeys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return [];
  }
}

function makeRoom() {
  const notes = noteKeys().map((key) => ({ key, ...readNote(key) }));
  const fresh = notes.filter(isFresh).sort((one, other) => other.time - one.time).slice(0, MOST - 1);
  for (const note of notes) {
    if (!fresh.includes(note)) remember('localStorage', note.key, null);
  }
}

async function noteFlow(state, organization, service) {
  const key = await keyOf(state);
  if (key === null) return;
  makeRoom();
  remember('localStorage', key, JSON.stringify({ organization, service, time: Date.now() }));
}

// Whether this browser began the flow; the note is good once.
export async function takeNote(state, organization, service) {
  const key = await keyOf(state);
  if (key === null) return false;
  const note = readNote(key);
  remember('localStorage', key, null);
  return isFresh(note) && note.organization === organization && note.service === service;
}

// With `replaceWith`, an account's id, this flow may put that account in the stored one's place, and no other.
export async function openConsentPage(organization, service, replaceWith = null) {
  const query = replaceWith === null ? '' : `?replace_with=${encodeURIComponent(replaceWith)}`;
  const path = organizationPath(organization, `integrations/${service}/auth_link${query}`);
  const { auth_link: link } = await request('GET', path);
  const url = URL.canParse(link) ? new URL(link) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) throw new ApiError('no_answer');
  await noteFlow(url.searchParams.get('state') ?? '', organization, service);
  location.assign(url.href);
}

// For the page that comes after the callback page: what to say there, once.
export function leaveConnectedNote(organization, service) {
  remember('sessionStorage', CONNECTED_KEY, JSON.stringify({ organization, service }));
}

export function takeConnectedNote() {
  const text = recall('sessionStorage', CONNECTED_KEY);
  remember('sessionStorage', CONNECTED_KEY, null);
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
