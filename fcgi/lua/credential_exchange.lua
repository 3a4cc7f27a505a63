-- KEYS: tokens. ARGV: the two values read, the two to put in their place.
local now = redis.call('HMGET', KEYS[1], 'access_token', 'refresh_token')
if now[1] ~= ARGV[1] or now[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'access_token', ARGV[3], 'refresh_token', ARGV[4])
return 1
