-- KEYS: the key of a grant's revocations. ARGV: an owner, milliseconds. Each owner stands there behind a space.
local others = redis.call('GET', KEYS[1]) or ''
if others == 'over' then others = '' end
redis.call('SET', KEYS[1], others .. ' ' .. ARGV[1], 'PX', ARGV[2])
return 1
