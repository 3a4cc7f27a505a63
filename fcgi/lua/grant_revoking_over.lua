-- KEYS: as grant_revoking.lua. ARGV: the owner, what to say after the last one, milliseconds.
local others = string.gsub(redis.call('GET', KEYS[1]) or '', ' ' .. ARGV[1], '')
if others ~= '' then redis.call('SET', KEYS[1], others, 'KEEPTTL')
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
