-- The eviction policy of the server. A script asks, because a refused command inside one is a value and not an error.
local info = redis.pcall('INFO', 'memory')
if type(info) == 'table' then return false end
return string.match(info, 'maxmemory_policy:(%S+)')
