-- KEYS: record, tokens, pending revocations, their claim.
-- include connection.lua
-- include pending.lua
local record, tokens = read_record(), read_credential()
local old = pending_read()
local pending, busy = {}, redis.call('EXISTS', KEYS[4])
if busy == 0 then pending = redis.call('HGETALL', KEYS[3]) end
redis.call('DEL', KEYS[1], KEYS[2])
pending_write(old)
if #pending > 0 then claim() end
return {record, tokens, pending, busy}
