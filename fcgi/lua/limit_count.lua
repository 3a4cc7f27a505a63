-- Answers -1: the member was removed; 0: counted; else the milliseconds until the window ends.
-- KEYS: the window. ARGV: limit, seconds of a window, the tombstone or nothing. The tombstone among KEYS would need the
-- right to write it, which workers do not have. It lies on the same node all the same.
if ARGV[3] and redis.call('EXISTS', ARGV[3]) == 1 then return -1 end
local limit = tonumber(ARGV[1])
if limit == 0 then return 0 end
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if used >= limit then
  local left = redis.call('PTTL', KEYS[1])
  if left > 0 and left <= ARGV[2] * 1000 then return left end
  redis.call('DEL', KEYS[1])
end
if redis.call('INCR', KEYS[1]) == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return 0
