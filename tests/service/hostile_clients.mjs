// Clients that keep connections and share them among members: node's fetch (HTTP/1.1) and node's http2.
// Standard input: one JSON array of ways, each {client, url, authority, at_once, requests: [{id, method, path, headers, body,
// bound}]}. Standard output: a line of JSON for each request, with what the client saw.
import http2 from "node:http2";
import process from "node:process";

process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0"; // the certificate is the test's own
process.removeAllListeners("warning");

async function byFetch(way, request, seen) {
	const response = await fetch(way.url + request.path, {
		method: request.method, headers: request.headers, body: request.body, redirect: "manual",
		signal: AbortSignal.timeout(request.bound * 1000),
	});
	seen.status = response.status;
	seen.headers = [...response.headers];
	seen.body = Buffer.from(await response.arrayBuffer()).toString("latin1");
}

function sessionOf(way) {
	if (!way.session || way.session.closed || way.session.destroyed) {
		way.session = http2.connect(way.url);
		way.session.on("error", () => {}); // its requests get it, too
		way.connections = (way.connections ?? 0) + 1;
	}
	return way.session;
}

function byHttp2(way, request, seen) {
	return new Promise((resolve, reject) => {
		const stream = sessionOf(way).request({
			...request.headers, ":method": request.method, ":path": request.path, ":authority": way.authority,
		});
		const timer = setTimeout(() => {
			seen.hung = true;
			stream.close();
			reject(new Error("hung"));
		}, request.bound * 1000);
		const chunks = [];
		stream.on("headers", (headers) => (seen.interim = [...(seen.interim ?? []), ...Object.entries(headers)]));
		stream.on("trailers", (headers) => (seen.interim = [...(seen.interim ?? []), ...Object.entries(headers)]));
		stream.on("response", (headers) => {
			seen.status = headers[":status"];
			seen.headers = Object.entries(headers).map(([name, value]) => [name, String(value)]);
		});
		stream.on("data", (chunk) => chunks.push(chunk));
		stream.on("error", reject);
		stream.on("close", () => {
			clearTimeout(timer);
			seen.body = Buffer.concat(chunks).toString("latin1");
			if (seen.status !== undefined && stream.rstCode === 0) resolve();
			else reject(new Error(`reset ${stream.rstCode}`));
		});
		stream.end(request.body);
	});
}

async function runWay(way) {
	const run = { fetch: byFetch, http2: byHttp2 }[way.client];
	const queue = way.requests[Symbol.iterator]();
	await Promise.all(Array.from({ length: way.at_once }, async () => {
		for (const request of queue) {
			const seen = { id: request.id };
			const begun = Date.now();
			try {
				await run(way, request, seen);
			} catch (error) {
				seen.error = `${error.name}: ${error.cause?.message ?? error.message}`;
				seen.hung ??= error.name === "TimeoutError";
			}
			seen.seconds = (Date.now() - begun) / 1000;
			process.stdout.write(JSON.stringify(seen) + "\n");
		}
	}));
	way.session?.destroy();
}

let ways = "";
for await (const part of process.stdin.setEncoding("utf8")) ways += part;
await Promise.all(JSON.parse(ways).map(runWay));
