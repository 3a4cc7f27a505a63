-- The tokens' former handed_out_until, `vended`, stays where it is the later one: a token may have been vended since
-- the credential was read that is now written.
local function keep_vended(vended)
  local now = tonumber(redis.call('HGET', KEYS[2], 'handed_out_until') or '0')
  if vended and (tonumber(vended) or 0) > now then
    redis.call('HSET', KEYS[2], 'handed_out_until', vended)
  end
end
