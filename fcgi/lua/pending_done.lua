-- KEYS: pending revocations, their claim. ARGV: generation. While another one is pending, its owner may be at work.
redis.call('HDEL', KEYS[1], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
return 1
