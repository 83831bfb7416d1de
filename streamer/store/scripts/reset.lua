-- Makes a partition nobody's, before all that is kept of it is deleted: from then on writes are
-- fenced, and claims refused, until the last key is gone.
--
-- KEYS  meta
-- Returns {"OK"}, or {"SCHEMA", stored} where a newer version has written it.
local meta = KEYS[1]
local stored = redis.call('HMGET', meta, 'schema', 'epoch')
local schema = tonumber(stored[1] or '0')
if schema > tonumber(ARGV[1]) then return {'SCHEMA', stored[1]} end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local epoch = string.format('%.0f', math.max(tonumber(stored[2] or '0') + 1, now))
-- Without a schema: a claim takes it for what it is, the rest of something.
redis.call('UNLINK', meta)
redis.call('HSET', meta, 'epoch', epoch)
return {'OK'}
