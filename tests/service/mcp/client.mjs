// An MCP client on the official SDK. Reads {"url", "token"} from standard input, uses every tool of server.mjs through
// the gateway, and prints what it found as JSON.
import { text } from 'node:stream/consumers';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';

const { url, token } = JSON.parse(await text(process.stdin));
const found = {};
const failure = async (promise) => {
	try {
		await promise;
		return null;
	} catch (error) {
		return { code: error.code ?? null, message: error.message };
	}
};

function connect(bearer = token) {
	const client = new Client({ name: 'client', version: '1.0.0' });
	const transport = new StreamableHTTPClientTransport(new URL(url), {
		requestInit: { headers: { Authorization: `Bearer ${bearer}` } },
	});
	return { client, transport, connected: client.connect(transport) };
}

const { client, transport, connected } = connect();
await connected;
const tool = (name, args = {}, options = {}) => client.callTool({ name, arguments: args }, undefined, { timeout: 20000, ...options });
const said = (result) => result.content[0].text;

found.server = client.getServerVersion().name;
found.session = transport.sessionId !== undefined;
found.tools = (await client.listTools()).tools.map((each) => each.name).sort();
found.echo = said(await tool('echo', { value: 'Grüße, 世界' }));

const large = said(await tool('large', { bytes: 2 * 1024 * 1024 }));
found.large = large.length;
found.largeBack = said(await tool('echo', { value: large })) === large;

// Each step goes on only after its progress has come here, so nothing on the way may hold events back.
found.progress = [];
found.steps = said(
	await tool('steps', { count: 3 }, {
		onprogress: async ({ progress }) => {
			found.progress.push(progress);
			await tool('go');
		},
	}),
);

found.failed = await tool('fail').then(({ isError, content }) => ({ isError, text: content[0].text }));
found.invalid = await tool('echo', { value: 1 }).then(({ isError }) => isError);
found.unknownMethod = await failure(client.request({ method: 'no/such' }, { parse: (value) => value }));

const abort = new AbortController();
found.aborted = await failure(tool('wait', {}, { signal: abort.signal, onprogress: () => abort.abort('enough') }));
do {
	found.cancelled = said(await tool('cancelled'));
} while (found.cancelled === '0');

const announced = new Promise((resolve) => client.setNotificationHandler(ToolListChangedNotificationSchema, () => resolve(true)));
// What is announced before the stream of GET is open is lost: MCP promises no more.
do {
	await tool('announce');
	found.announced = await Promise.race([announced, new Promise((resolve) => setTimeout(resolve, 500, false))]);
} while (!found.announced);

found.atOnce = (await Promise.all(Array.from({ length: 20 }, (_, i) => tool('echo', { value: String(i) })))).map(said);

await transport.terminateSession();
found.terminated = await failure(tool('echo', { value: 'x' }));
await client.close();

found.stranger = await failure(connect('unknown-MARKER').connected);

console.log(JSON.stringify(found));
process.exit(0);
