-- Note until when a vended token lasts. Whatever tokens of this connection are stored by now, the vended one lives on:
-- so the generation is not compared, and the latest expiry stays.
-- KEYS: record, tokens. ARGV: expiry, tombstone, the connection's id.
if redis.call('EXISTS', ARGV[2]) == 1 then return 0 end
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[3] then return 0 end
local until_now = tonumber(redis.call('HGET', KEYS[2], 'handed_out_until') or '0') or 0
if until_now < tonumber(ARGV[1]) then redis.call('HSET', KEYS[2], 'handed_out_until', ARGV[1]) end
return 1
