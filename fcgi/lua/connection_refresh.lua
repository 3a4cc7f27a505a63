-- Store refreshed tokens, if the generation is still the one that was read.
-- KEYS: record, tokens. ARGV: generation, whether the account was verified, tombstone ("": a member who is barred
-- meanwhile is no reason to lose what the provider gave), number of words of the record, its fields and values, the tokens'.
-- include vended.lua
if ARGV[3] ~= '' and redis.call('EXISTS', ARGV[3]) == 1 then return 2 end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if (redis.call('HGET', KEYS[1], 'generation') or '') ~= ARGV[1] then return 0 end
local last = 4 + tonumber(ARGV[4])
local vended = redis.call('HGET', KEYS[2], 'handed_out_until')
if ARGV[2] == '1' then
  redis.call('HDEL', KEYS[1], 'status_reason', 'oauth_email', 'validated_at')
end
redis.call('HSET', KEYS[1], unpack(ARGV, 5, last))
redis.call('HSET', KEYS[2], unpack(ARGV, last + 1))
keep_vended(vended)
return 1
