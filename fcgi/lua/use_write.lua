-- One entry of uses, while its actor's share of this hour lasts. Answers how many more of the worker's block may be
-- written without asking again; -1: the share is used up, and this entry is for the log alone.
-- KEYS: the actor's count. ARGV: share, block, the stream, its length, actor, organization, fields and values. The stream is
-- an argument: workers may do nothing with it but XADD, and EVAL needs more of its KEYS. It lies on the same node.
local share, block = tonumber(ARGV[1]), tonumber(ARGV[2])
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if used >= share + block then return -1 end
if used == 0 then redis.call('SET', KEYS[1], block, 'EX', 3600)
else redis.call('SET', KEYS[1], used + block, 'KEEPTTL') end
if used < share then
  redis.call('XADD', ARGV[3], 'MAXLEN', '~', ARGV[4], '*', unpack(ARGV, 7))
  return math.min(share - used, block) - 1
end
redis.call('XADD', ARGV[3], 'MAXLEN', '~', ARGV[4], '*', 'event', 'audit_uses_limited',
  'actor', ARGV[5], 'organization', ARGV[6])
return -1
