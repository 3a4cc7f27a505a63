-- For scripts that delete or replace a connection, KEYS[3] and KEYS[4] being those of store_pending_revocation.c.
-- pending_read() comes before the connection is deleted, pending_write() after it: Redis without memory refuses a script
-- whose first write needs some.
-- include claim.lua
local function pending_read()
  return {redis.call('HMGET', KEYS[1], 'generation', 'oauth_user_id'),
    redis.call('HMGET', KEYS[2], 'client_id', 'issuer', 'handed_out_until', 'refresh_token')}
end
local function claim()
  redis.call('SET', KEYS[4], '1', 'PX', CLAIM_MS)
end
local function pending_write(was)
  local record, tokens = was[1], was[2]
  if tokens[1] and tokens[2] and tokens[4] then
    redis.call('HSET', KEYS[3], record[1] or '',
      table.concat({tokens[1], tokens[2], tokens[3] or '0', tokens[4], record[2] or ''}, '\n'))
    redis.call('EXPIRE', KEYS[3], '86400')
    claim()
  end
end
