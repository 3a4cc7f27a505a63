-- What several scripts read of a connection: KEYS[1] is its record, KEYS[2] its tokens. The fields and their order are
-- those of store_internal.h (tests/unit/test_lua.c compares them).
local function read_record()
  return redis.call('HMGET', KEYS[1], 'id', 'status', 'oauth_user_id', 'scopes', 'connected_at', 'updated_at',
    'generation', 'status_reason', 'oauth_email', 'missing_scopes', 'validated_at')
end
local function read_credential()
  return redis.call('HMGET', KEYS[2], 'access_token', 'refresh_token', 'issued_at', 'expires_at', 'handed_out_until',
    'forced_at', 'issuer', 'client_id', 'generation')
end
