-- Record and tokens of one moment, for when a pipeline has shown those of two. ARGV: tombstone. As a key it would need
-- the right to write it.
-- include connection.lua
return {read_record(), read_credential(), redis.call('EXISTS', ARGV[1])}
