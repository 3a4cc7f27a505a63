-- For wrk: the requests of a file, each as it goes over the wire, in turn. REQUESTS names the file; each request is
-- preceded by a line with its length and, where it matters, what its answer must hold. Counts answers by status and prints
-- one line of JSON at the end. CHECK=1 looks at the answers: with one connection per thread, the last request is theirs.
local threads = {}

function setup(thread)
	thread:set("number", #threads)
	table.insert(threads, thread)
end

function init(args)
	local file = assert(io.open(os.getenv("REQUESTS"), "rb"))
	requests = {}
	held = {}
	for line in file:lines() do
		local length, what = line:match("^(%d+) ?(.*)$")
		requests[#requests + 1] = file:read(tonumber(length))
		held[#requests] = what
	end
	check = os.getenv("CHECK") == "1"
	wrong = 0
	file:close()
	math.randomseed(number * 7919 + 1)
	at = math.random(#requests)
	statuses = ""
	counts = {}
end

-- PACE=10: each connection waits about so many milliseconds before its next request, so that the rate is about the same
-- whatever else happens.
local pace = tonumber(os.getenv("PACE") or "0")
if pace > 0 then
	function delay()
		return math.random(0, 2 * pace)
	end
end

function request()
	at = at % #requests + 1
	return requests[at]
end

function response(status, headers, body)
	if check and status == 200 and not body:find(held[at], 1, true) then
		wrong = wrong + 1
	end
	if status ~= 200 then
		counts[status] = (counts[status] or 0) + 1
		statuses = ""
		for each, count in pairs(counts) do
			statuses = statuses .. string.format(',"%d":%d', each, count)
		end
	end
end

function done(summary, latency)
	local other, wrong = "", 0
	for _, thread in ipairs(threads) do
		other = other .. thread:get("statuses")
		wrong = wrong + thread:get("wrong")
	end
	local errors = summary.errors
	io.write(string.format(
		'{"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"max":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d,"wrong":%d,"other":{%s}}\n',
		summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
		errors.connect, errors.read, errors.write, errors.timeout, errors.status, wrong, other:sub(2)))
end
