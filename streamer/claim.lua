-- Claims a partition: a new epoch, later than all before it.
--
-- KEYS  meta, due, outbox
-- ARGV  1 partition count, 2 schema that the caller knows
-- Returns {"OK", epoch, sequence, next, high_ts} (the last two false where unset), or why not:
--         {"PARTITIONS", stored} | {"SCHEMA", stored} | {"FOREIGN"}.
--
-- The epoch is the server's clock in microseconds where that is later than the epoch before. A plain
-- counter would give the same epoch twice when the server loses its last writes and is claimed
-- again, and then neither of the two owners would be fenced.
local meta, due, outbox = KEYS[1], KEYS[2], KEYS[3]
local stored = redis.call('HMGET', meta, 'schema', 'partitions', 'epoch', 'sequence', 'next', 'high_ts')

if redis.call('EXISTS', meta) == 1 then
  local schema = tonumber(stored[1] or '')
  if not schema then return {'FOREIGN'} end
  if schema > tonumber(ARGV[2]) then return {'SCHEMA', stored[1]} end
  if tonumber(stored[2] or '') ~= tonumber(ARGV[1]) then return {'PARTITIONS', stored[2] or '0'} end
elseif redis.call('EXISTS', due, outbox) > 0 then
  return {'FOREIGN'}
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local epoch = string.format('%.0f', math.max(tonumber(stored[3] or '0') + 1, now))
redis.call('HSET', meta, 'epoch', epoch, 'partitions', ARGV[1], 'schema', ARGV[2])
redis.call('HSETNX', meta, 'sequence', '0')
redis.call('HSETNX', meta, 'outbox_first', '0')
return {'OK', epoch, stored[4] or '0', stored[5], stored[6]}
