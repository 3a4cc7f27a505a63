-- Store a new connection, or reconnect or replace the one that is there.
-- KEYS: record, tokens, pending revocations, their claim. ARGV: tombstone (among KEYS it would need the right to write it,
-- which workers do not have), account, issuer, replace, id, connected_at, number of words of the record, the record's
-- fields and values, the tokens'.
-- include connection.lua
-- include pending.lua
-- include vended.lua
if redis.call('EXISTS', ARGV[1]) == 1 then return {'removed'} end
local record, tokens = read_record(), read_credential()
local outcome, id, connected, vended = 'created', ARGV[5], ARGV[6], false
if redis.call('EXISTS', KEYS[1]) == 1 then
  local was = redis.call('HMGET', KEYS[1], 'oauth_user_id', 'id', 'connected_at')
  local had = redis.call('HMGET', KEYS[2], 'issuer', 'handed_out_until')
  if was[1] == ARGV[2] and (not had[1] or had[1] == ARGV[3]) then
    outcome, id, connected, vended = 'reconnected', was[2] or id, was[3] or connected, had[2]
  elseif ARGV[4] == '1' then
    outcome = 'replaced'
  else
    return {'mismatch', id, connected, record, tokens}
  end
end
local last = 7 + tonumber(ARGV[7])
local old = pending_read()
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'id', id, 'connected_at', connected, unpack(ARGV, 8, last))
redis.call('HSET', KEYS[2], unpack(ARGV, last + 1))
keep_vended(vended)
if outcome == 'replaced' then pending_write(old) end
return {outcome, id, connected, record, tokens}
