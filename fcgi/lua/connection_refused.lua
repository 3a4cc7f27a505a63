-- KEYS: record, tokens. ARGV: generation, now.
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[2], 'expires_at', '0', 'forced_at', ARGV[2])
