-- As connection_read.lua does, with a note that the token is vended where it will be.
-- ARGV: tombstone, the least expiry, scopes that must be granted, issuer, client id.
-- include connection.lua
local record, tokens = read_record(), read_credential()
local removed = redis.call('EXISTS', ARGV[1])
local is = redis.call('HMGET', KEYS[1], 'status', 'scopes')
local has = redis.call('HMGET', KEYS[2], 'expires_at', 'handed_out_until', 'issuer', 'client_id')
local expires, vended = tonumber(has[1] or ''), tonumber(has[2] or '') or 0
local fit = removed == 0 and is[1] and is[1] ~= 'invalid' and has[3] == ARGV[4] and has[4] == ARGV[5] and
  expires and expires >= tonumber(ARGV[2]) and expires > vended
for scope in string.gmatch(ARGV[3], '%S+') do
  fit = fit and string.find(' ' .. (is[2] or '') .. ' ', ' ' .. scope .. ' ', 1, true)
end
if fit then redis.call('HSET', KEYS[2], 'handed_out_until', has[1]) end
return {record, tokens, removed, fit and 1 or 0}
