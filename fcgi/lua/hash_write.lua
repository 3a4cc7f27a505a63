-- Write a hash anew, with its end. KEYS: a session or a caller. ARGV: seconds, fields and values.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
