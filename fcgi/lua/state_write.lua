-- KEYS: the state. ARGV: seconds, fields and values. Nothing is deleted first: Redis without memory refuses a script by
-- its first write, and a deletion needs none.
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
