-- KEYS: record. ARGV: generation, fields and values.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if (redis.call('HGET', KEYS[1], 'generation') or '') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'status_reason')
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
