-- KEYS: pending revocations, their claim.
-- include claim.lua
local pending, busy = {}, redis.call('EXISTS', KEYS[2])
if busy == 0 then pending = redis.call('HGETALL', KEYS[1]) end
if #pending > 0 then redis.call('SET', KEYS[2], '1', 'PX', CLAIM_MS) end
return {pending, busy}
