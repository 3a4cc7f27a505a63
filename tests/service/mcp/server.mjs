// An MCP server on the official SDK, as the gateway's upstream: a session per client, tools that show what a gateway
// could break. server.mjs PORT; on GET /seen it tells what it was sent, credentials as fingerprints.
import { createHash, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { z } from 'zod';

const seen = [];
const transports = new Map();
let release = () => {};
let cancelled = 0;

const text = (value) => ({ content: [{ type: 'text', text: value }] });

function tools() {
	const server = new McpServer({ name: 'upstream', version: '1.0.0' }, { capabilities: { logging: {} } });

	server.registerTool('echo', { inputSchema: { value: z.string() } }, async ({ value }) => text(value));
	server.registerTool('large', { inputSchema: { bytes: z.number() } }, async ({ bytes }) => text('x'.repeat(bytes)));
	server.registerTool('fail', {}, async () => {
		throw new Error('The tool failed.');
	});
	// Ends only when `go` is called, which a client does once it has seen the first progress.
	server.registerTool('steps', { inputSchema: { count: z.number() } }, async ({ count }, { sendNotification, _meta }) => {
		for (let step = 1; step <= count; step++) {
			const released = new Promise((resolve) => (release = resolve));
			await sendNotification({
				method: 'notifications/progress',
				params: { progressToken: _meta.progressToken, progress: step, total: count },
			});
			await released;
		}
		return text('all steps');
	});
	server.registerTool('go', {}, async () => {
		release();
		return text('went');
	});
	server.registerTool('wait', {}, ({ signal, sendNotification, _meta }) => {
		sendNotification({ method: 'notifications/progress', params: { progressToken: _meta.progressToken, progress: 0 } });
		return new Promise((resolve) =>
			signal.addEventListener('abort', () => {
				cancelled++;
				resolve(text('cancelled'));
			}),
		);
	});
	server.registerTool('cancelled', {}, async () => text(String(cancelled)));
	// Outside of any request: it comes over the stream of GET.
	server.registerTool('announce', {}, async () => {
		setImmediate(() => server.server.sendToolListChanged());
		return text('announced');
	});
	return server;
}

async function open() {
	const transport = new StreamableHTTPServerTransport({
		sessionIdGenerator: randomUUID,
		onsessioninitialized: (id) => transports.set(id, transport),
		onsessionclosed: (id) => transports.delete(id),
	});
	await tools().connect(transport);
	return transport;
}

function note(request) {
	const { authorization = '', ...headers } = request.headers;
	seen.push({
		method: request.method,
		scheme: authorization.split(' ')[0],
		token: createHash('sha256').update(authorization.split(' ')[1] ?? '').digest('hex').slice(0, 16),
		headers: Object.keys(headers).sort(),
	});
}

function refuse(response, status, message) {
	response.writeHead(status, { 'Content-Type': 'application/json' });
	response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32001, message } }));
}

const http = createServer(async (request, response) => {
	if (request.url === '/seen') {
		response.end(JSON.stringify(seen));
		return;
	}
	note(request);
	const id = request.headers['mcp-session-id'];
	if (id !== undefined && !transports.has(id)) {
		refuse(response, 404, 'Session not found');
		return;
	}
	await (transports.get(id) ?? (await open())).handleRequest(request, response);
});
http.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
