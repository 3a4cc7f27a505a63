-- Give a row its MAC. A row that changed since it was read stays as it is.
-- KEYS: the caller. ARGV: the row as it was read, absent fields empty; its end, the MAC.
local now = redis.call('HMGET', KEYS[1], 'name', 'mcps', 'organizations', 'expires_at', 'mac')
for i = 1, 5 do
  if (now[i] or '') ~= ARGV[i] then return 0 end
end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'expires_at', ARGV[6]) end
redis.call('HSET', KEYS[1], 'mac', ARGV[7])
return 1
