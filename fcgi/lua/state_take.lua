-- Read and delete: of any number of callers one gets the row. KEYS: the state. ARGV: the fields.
local row = redis.call('HMGET', KEYS[1], unpack(ARGV))
if redis.call('DEL', KEYS[1]) == 0 then return false end
return row
